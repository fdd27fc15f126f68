// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"encoding/json"
	"errors"
	"io"
	"log/slog"
	"strings"

	"gopkg.in/natefinch/lumberjack.v2"
)

// logging reads the key logOptions, which every plugin has, and returns the
// logger it asks for: JSON lines in a file, which is turned over when it grows.
// Without the key, or without a file in it, nothing is logged: whoever called
// the plugin gets its errors.
func logging(raw map[string]json.RawMessage) (*slog.Logger, io.Closer, error) {
	silent := slog.New(slog.DiscardHandler)
	for name, value := range raw {
		if !logKey.is(name) {
			continue
		}
		file, level, err := logOptions(name, value)
		if err != nil || file == nil {
			return silent, io.NopCloser(nil), err
		}
		return slog.New(slog.NewJSONHandler(file, &slog.HandlerOptions{Level: level})), file, nil
	}
	return silent, io.NopCloser(nil), nil
}

// logOptions reads the value of the key of that name, in camelCase or
// snake_case.
func logOptions(name string, value json.RawMessage) (*lumberjack.Logger, slog.Level, error) {
	level := "info"
	// Sizes in MiB, ages in days.
	file := &lumberjack.Logger{MaxSize: 100, MaxAge: 5, MaxBackups: 5}
	err := Fields(value, []Key{
		{"logLevel", OneOf(&level, "debug", "info", "warn", "error"), "log_level"},
		{"logFile", path(&file.Filename), "log_file"},
		{"logMaxSize", Int(&file.MaxSize, 1, 1<<20), "log_max_size"},
		{"logMaxAge", Int(&file.MaxAge, 0, 1<<20), "log_max_age"},
		{"logMaxCount", Int(&file.MaxBackups, 0, 1<<20), "log_max_count"},
	})
	if errors.Is(err, errNoObject) {
		return nil, 0, Invalid(`%s: %s: want an object like {"logLevel": "info", "logFile": "/var/log/multihome.log"}`, name, value)
	}
	if err != nil {
		return nil, 0, Invalid("%s: %w", name, err)
	}
	if file.Filename == "" {
		return nil, 0, nil
	}
	var l slog.Level
	err = l.UnmarshalText([]byte(level))
	return file, l, err
}

// path is an absolute path of a file.
func path(p *string) Value {
	return Value{"an absolute path", func(raw json.RawMessage) error {
		var s string
		if err := parse(raw, &s); err != nil {
			return err
		}
		if !strings.HasPrefix(s, "/") || strings.ContainsRune(s, 0) {
			return errValue
		}
		*p = s
		return nil
	}}
}
