package main

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
)

// monitor speaks QEMU's machine protocol, QMP: a JSON object a line; the answers to commands come in order, events between.
type monitor struct {
	out *json.Encoder
	in  *json.Decoder
}

// newMonitor reads the greeting and leaves the negotiation mode.
func newMonitor(c io.ReadWriter) (*monitor, error) {
	m := &monitor{out: json.NewEncoder(c), in: json.NewDecoder(c)}
	var greeting struct{ QMP json.RawMessage }
	if err := m.in.Decode(&greeting); err != nil || greeting.QMP == nil {
		return nil, fmt.Errorf("QMP: no greeting: %w", err)
	}
	_, err := m.execute("qmp_capabilities", nil)
	return m, err
}

func (m *monitor) execute(command string, arguments map[string]any) (json.RawMessage, error) {
	request := map[string]any{"execute": command}
	if arguments != nil {
		request["arguments"] = arguments
	}
	if err := m.out.Encode(request); err != nil {
		return nil, fmt.Errorf("QMP %s: %w", command, err)
	}
	for {
		var answer struct {
			Return json.RawMessage
			Error  *struct{ Class, Desc string }
		}
		if err := m.in.Decode(&answer); err != nil {
			return nil, fmt.Errorf("QMP %s: no answer: %w", command, err)
		}
		switch {
		case answer.Error != nil:
			return nil, fmt.Errorf("QMP %s: %s", command, answer.Error.Desc)
		case answer.Return != nil:
			return answer.Return, nil
		}
	}
}

// human runs a line of the human monitor.
func (m *monitor) human(line string) (string, error) {
	answer, err := m.execute("human-monitor-command", map[string]any{"command-line": line})
	if err != nil {
		return "", err
	}
	var text string
	if err := json.Unmarshal(answer, &text); err != nil {
		return "", fmt.Errorf("QMP %s: %w", line, err)
	}
	return strings.ReplaceAll(text, "\r", ""), nil
}
