// Renders chat templates as Ollama does: Go's own text/template, `.System` the joined system messages, `.Messages` all of them.
package main

import (
	"encoding/json"
	"os"
	"strings"
	"text/template"
)

type message struct{ Role, Content string }

type request struct {
	Template string
	Messages []*message
}

func render(r request) (string, error) {
	parsed, err := template.New("").Option("missingkey=zero").Parse(r.Template)
	if err != nil {
		return "", err
	}
	var system []string
	for _, m := range r.Messages {
		if m.Role == "system" {
			system = append(system, m.Content)
		}
	}
	var out strings.Builder
	values := map[string]any{"System": strings.Join(system, "\n\n"), "Messages": r.Messages, "Response": ""}
	err = parsed.Execute(&out, values)
	return out.String(), err
}

func main() {
	var requests []request
	if err := json.NewDecoder(os.Stdin).Decode(&requests); err != nil {
		panic(err)
	}
	rendered := []string{}
	for _, r := range requests {
		text, err := render(r)
		if err != nil {
			panic(err)
		}
		rendered = append(rendered, text)
	}
	if err := json.NewEncoder(os.Stdout).Encode(rendered); err != nil {
		panic(err)
	}
}
