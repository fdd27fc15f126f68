// SPDX-License-Identifier: Apache-2.0

package ipamcni

import (
	"encoding/json"
	"errors"
	"log/slog"
	"strings"

	"github.com/containernetworking/cni/pkg/skel"
	"gopkg.in/natefinch/lumberjack.v2"

	"github.com/multihome/multihome/pkg/config"
)

// logFile is where the plugin logs to, if the configuration names a file.
type logFile struct {
	level slog.Level
	lumberjack.Logger
}

// keys returns the keys that configure the log. Sizes are in MiB, ages in days.
func (l *logFile) keys() []config.Key {
	l.MaxSize, l.MaxAge, l.MaxBackups = 100, 5, 5
	return []config.Key{
		{Name: "log_level", Value: level(&l.level)},
		{Name: "log_file_path", Value: config.AbsolutePath(&l.Filename)},
		{Name: "log_file_max_size", Value: config.Int(&l.MaxSize, 1, 1<<20)},
		{Name: "log_file_max_age", Value: config.Int(&l.MaxAge, 0, 1<<20)},
		{Name: "log_file_max_count", Value: config.Int(&l.MaxBackups, 0, 1<<20)},
	}
}

// level accepts the levels of the log; the last three are one, as nothing is worse than an
// error here.
func level(p *slog.Level) config.Value {
	return config.Value{Want: "one of debug, info, warn, error, fatal, panic", Set: func(raw json.RawMessage) error {
		s, err := config.Text(raw)
		if err != nil {
			return err
		}
		switch strings.ToLower(s) {
		case "debug":
			*p = slog.LevelDebug
		case "info":
			*p = slog.LevelInfo
		case "warn":
			*p = slog.LevelWarn
		case "error", "fatal", "panic":
			*p = slog.LevelError
		default:
			return errors.New("not a level")
		}
		return nil
	}}
}

// log writes a line about a verb, if the configuration names a file.
func (k keys) log(command, name string, args *skel.CmdArgs, err error) {
	if k.logFile.Filename == "" {
		return
	}
	l := slog.New(slog.NewJSONHandler(k.logFile, &slog.HandlerOptions{Level: k.logFile.level})).With(
		"plugin", name, "network", k.Name, "container", args.ContainerID, "ifname", args.IfName, "args", args.Args)
	if err != nil {
		l.Error(command, "error", err)
	} else {
		l.Info(command)
	}
	_ = k.logFile.Close()
}
