// SPDX-License-Identifier: Apache-2.0

package plugin

import (
	"encoding/json"
	"errors"
	"io"
	"log/slog"

	"gopkg.in/natefinch/lumberjack.v2"

	"github.com/multihome/multihome/pkg/config"
)

// logging reads the key logOptions, which every plugin has, and returns the logger that
// it configures: JSON lines in a file, which is rotated when it grows. It returns a
// silent logger if the key is missing or names no file: the caller of the plugin gets the
// errors anyway.
func logging(raw map[string]json.RawMessage) (*slog.Logger, io.Closer, error) {
	silent := slog.New(slog.DiscardHandler)
	for name, value := range raw {
		if !config.LogKey.Is(name) {
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

// logOptions reads the value of the key name, whose fields are in camelCase or
// snake_case. The logger is nil if the value names no file.
func logOptions(name string, value json.RawMessage) (*lumberjack.Logger, slog.Level, error) {
	level := "info"
	// Sizes in MiB, ages in days.
	file := &lumberjack.Logger{MaxSize: 100, MaxAge: 5, MaxBackups: 5}
	err := config.Fields(value, []config.Key{
		{Name: "logLevel", Value: config.OneOf(&level, "debug", "info", "warn", "error"), Also: "log_level"},
		{Name: "logFile", Value: config.AbsolutePath(&file.Filename), Also: "log_file"},
		{Name: "logMaxSize", Value: config.Int(&file.MaxSize, 1, 1<<20), Also: "log_max_size"},
		{Name: "logMaxAge", Value: config.Int(&file.MaxAge, 0, 1<<20), Also: "log_max_age"},
		{Name: "logMaxCount", Value: config.Int(&file.MaxBackups, 0, 1<<20), Also: "log_max_count"},
	})
	if errors.Is(err, config.ErrNoObject) {
		return nil, 0, config.Invalid(`%s: %s: want an object like {"logLevel": "info", "logFile": "/var/log/multihome.log"}`, name, value)
	}
	if err != nil {
		return nil, 0, config.Invalid("%s: %w", name, err)
	}
	if file.Filename == "" {
		return nil, 0, nil
	}
	var l slog.Level
	err = l.UnmarshalText([]byte(level))
	return file, l, err
}
