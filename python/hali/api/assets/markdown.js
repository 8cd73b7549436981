// The little Markdown that replies of models have: fenced code, `code`, **bold**. Made of elements and text nodes only.

import { h } from "./dom.js";

// `[{kind: "code", language, text} | {kind: "text", text}]`; a fence that is not closed yet is code to the end. Pure.
export function blocks(source) {
  const found = [];
  let code = null;
  for (const line of source.split("\n")) {
    const fence = /^\s*```+\s*([\w+#.-]*)\s*$/.exec(line);
    if (fence && (code === null || fence[1] === "")) {
      if (code === null) found.push((code = { kind: "code", language: fence[1], lines: [] }));
      else code = null;
    } else if (code !== null) code.lines.push(line);
    else if (found.at(-1)?.kind === "text") found.at(-1).lines.push(line);
    else found.push({ kind: "text", lines: [line] });
  }
  return found.map(({ lines, ...block }) => ({ ...block, text: lines.join("\n") }));
}

// Elements for `source`.
export function rendered(source) {
  const code = (text) => [h("pre", { tabIndex: 0 }, h("code", { text }))];
  return blocks(source).flatMap(({ kind, text }) => (kind === "code" ? code(text) : paragraphs(text)));
}

function paragraphs(text) {
  return text.split(/\n{2,}/).filter((part) => part.trim()).map((part) => h("p", {}, ...inline(part.trim())));
}

// `code` and **bold** within a line.
export function inline(text) {
  return text.split(/(`[^`\n]+`|\*\*[^*\n]+\*\*)/).map((part) => {
    if (/^`[^`]+`$/.test(part)) return h("code", { text: part.slice(1, -1) });
    if (/^\*\*[^*]+\*\*$/.test(part)) return h("strong", { text: part.slice(2, -2) });
    return document.createTextNode(part);
  });
}
