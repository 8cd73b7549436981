// Before the first paint: the colours that were chosen here last, else those of the system. A classic script for that reason.
try {
  const chosen = localStorage.getItem("hali-theme");
  if (chosen === "light" || chosen === "dark") document.documentElement.dataset.theme = chosen;
} catch {
  // storage is turned off: the system's colours hold
}
