package main

import (
	"bytes"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/smartcred/smartcred"
)

// readFile reads a configuration file's keys into s; relative paths count from
// dir. It returns everything that is wrong with them.
func readFile(s *settings, root *yaml.Node, dir string) []error {
	if root == nil {
		return nil // a file without keys
	}
	return eachMember(root, "", func(key string, node *yaml.Node) []error {
		i := slices.IndexFunc(options, func(o option) bool { return o.key == key })
		if i < 0 {
			return []error{unknownKey(key, node.Line)}
		}
		if node.Tag == "!!null" {
			return nil // a key without a value is a key that is not set
		}
		s.dirs[key] = dir
		return setFromFile(s, &options[i], node)
	})
}

// document returns the mapping that a file consists of; nil if it has none.
func document(data []byte) (*yaml.Node, error) {
	decoder := yaml.NewDecoder(bytes.NewReader(data))
	var doc, second yaml.Node
	switch err := decoder.Decode(&doc); {
	case errors.Is(err, io.EOF):
		return nil, nil
	case err != nil:
		return nil, malformed(err)
	}
	switch err := decoder.Decode(&second); {
	case errors.Is(err, io.EOF):
	case err != nil:
		return nil, malformed(err)
	default:
		return nil, &smartcred.ConfigError{Option: "config", Problem: "the file has more than one YAML document"}
	}
	root := doc.Content[0]
	switch {
	case root.Tag == "!!null":
		return nil, nil
	case root.Kind != yaml.MappingNode:
		return nil, &smartcred.ConfigError{Option: "config", Problem: "the file is no map of keys and values: write them as key: value"}
	}
	return root, nil
}

var yamlLine = regexp.MustCompile(`line \d+`)

// malformed keeps of the parser's error only where it is: it can quote the file,
// which may hold a secret in the wrong place.
func malformed(err error) error {
	problem := "the file is not valid YAML"
	if line := yamlLine.FindString(err.Error()); line != "" {
		problem += " (" + line + ")"
	}
	return &smartcred.ConfigError{Option: "config", Problem: problem}
}

// eachMember calls visit for every member of a mapping, whose own name is
// parent, and refuses what YAML could hide in it.
func eachMember(node *yaml.Node, parent string, visit func(key string, value *yaml.Node) []error) []error {
	if node.Kind != yaml.MappingNode {
		return []error{fileError(parent, node.Line, "is no map: write its members as name: value, indented")}
	}
	var problems []error
	seen := map[string]bool{}
	for i := 0; i+1 < len(node.Content); i += 2 {
		name, value := node.Content[i], node.Content[i+1]
		if name.Kind != yaml.ScalarNode || name.Tag != "!!str" {
			problems = append(problems, fileError(parent, name.Line, "has a key that is no plain word"))
			continue
		}
		if seen[name.Value] {
			problems = append(problems, fileError(qualified(parent, name.Value), name.Line, "is given twice"))
			continue
		}
		seen[name.Value] = true
		problems = append(problems, visit(name.Value, value)...)
	}
	return problems
}

func qualified(parent, name string) string {
	if parent == "" {
		return name
	}
	return parent + "." + name
}

func fileError(key string, line int, problem string) error {
	if key == "" {
		key = "config"
	}
	return &smartcred.ConfigError{Option: key, Problem: fmt.Sprintf("%s (line %d)", problem, line)}
}

// setFromFile gives an option its value from the file.
func setFromFile(s *settings, o *option, node *yaml.Node) []error {
	if o.setMap != nil {
		return o.setMap(s, node)
	}
	values, problem := scalars(node, o.shape)
	if problem == "" {
		err := o.set(s, values)
		if err == nil {
			return nil
		}
		problem = err.Error()
	}
	return []error{fileError(o.key, node.Line, problem)}
}

// scalars returns a scalar's text, or that of each entry of a list, or what is
// wrong with it. Numbers keep the text they are written with.
func scalars(node *yaml.Node, want shape) (values []string, problem string) {
	switch {
	case node.Kind == yaml.ScalarNode && want != isList:
		return []string{node.Value}, ""
	case node.Kind == yaml.SequenceNode && want.several():
		for _, entry := range node.Content {
			if entry.Kind != yaml.ScalarNode || entry.Tag == "!!null" {
				return nil, "has an entry that is no single value"
			}
			values = append(values, entry.Value)
		}
		return values, ""
	case node.Kind == yaml.AliasNode:
		return nil, "is a YAML alias: write the value itself"
	case want == isList:
		return nil, "is no list: write [one, two], or a line with a dash for each"
	default:
		return nil, "is no single value"
	}
}

// tokenParams reads token_params: a map of names to a value or a list of values.
func tokenParams(s *settings, node *yaml.Node) []error {
	params := map[string][]string{}
	problems := eachMember(node, "token_params", func(name string, value *yaml.Node) []error {
		values, problem := scalars(value, isURIs)
		if problem != "" || value.Tag == "!!null" {
			return []error{fileError("token_params."+name, value.Line, "is neither a value nor a list of values")}
		}
		params[name] = values
		return nil
	})
	s.tokenParams = params
	return problems
}

// plugins reads plugins: NAME: {path, sha256, env}.
func plugins(s *settings, node *yaml.Node) []error {
	all := map[string]plugin{}
	problems := eachMember(node, "plugins", func(name string, value *yaml.Node) []error {
		p, problems := readPlugin("plugins."+name, value)
		all[name] = p
		return problems
	})
	s.plugins = all
	return problems
}

func readPlugin(parent string, node *yaml.Node) (p plugin, problems []error) {
	problems = eachMember(node, parent, func(name string, value *yaml.Node) []error {
		key := parent + "." + name
		want := isText
		if name == "env" {
			want = isList
		}
		values, problem := scalars(value, want)
		switch {
		case name != "path" && name != "sha256" && name != "env":
			problem = "unknown key: a plugin has path, sha256 and env"
		case problem != "":
		case name == "path":
			p.path = values[0]
		case name == "env":
			p.env = values
		case !isSHA256(values[0]):
			problem = "is no SHA-256 of a file: 64 hexadecimal digits, as sha256sum prints"
		default:
			p.sha256 = strings.ToLower(values[0])
		}
		if problem != "" {
			return []error{fileError(key, value.Line, problem)}
		}
		return nil
	})
	if p.path == "" && len(problems) == 0 {
		problems = append(problems, fileError(parent+".path", node.Line, "is missing: name the program"))
	}
	return p, problems
}

func isSHA256(s string) bool {
	sum, err := hex.DecodeString(s)
	return err == nil && len(sum) == 32
}
