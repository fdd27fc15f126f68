// SPDX-License-Identifier: Apache-2.0

package coordinator

import (
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/containernetworking/cni/pkg/types"
)

// loadOne loads a configuration of one key.
func loadOne(t *testing.T, key, value string) (*Config, error) {
	t.Helper()
	conf, err := Load(map[string]json.RawMessage{key: json.RawMessage(value)})
	if err != nil {
		return nil, err
	}
	return conf.(*Config), nil
}

// refused fails unless the value is refused with CNI's code 7, and the error
// holds all of these words.
func refused(t *testing.T, key, value string, words ...string) {
	t.Helper()
	_, err := loadOne(t, key, value)
	var e *types.Error
	if !errors.As(err, &e) || e.Code != types.ErrInvalidNetworkConfig {
		t.Errorf("%s: %s: got error %v, want one of code %d", key, value, err, types.ErrInvalidNetworkConfig)
		return
	}
	for _, w := range append(words, key, value) {
		if !strings.Contains(e.Msg, w) {
			t.Errorf("%s: %s: %q is not in %q", key, value, w, e.Msg)
		}
	}
}

func TestMACPrefix(t *testing.T) {
	for value, want := range map[string][]byte{
		`"0a:1b"`: {0x0a, 0x1b}, `"0A-1B"`: {0x0a, 0x1b}, `"00:00"`: {0, 0}, `"fe:ff"`: {0xfe, 0xff}, `""`: nil, `null`: nil,
	} {
		c, err := loadOne(t, "podMACPrefix", value)
		if err != nil {
			t.Errorf("%s: %v", value, err)
		} else if !slices.Equal(c.MACPrefix, want) {
			t.Errorf("%s: got % x, want % x", value, c.MACPrefix, want)
		}
	}
	for _, value := range []string{`"03:1b"`, `"ff:ff"`, `"0,:1b"`, `"0a1b"`, `"0a.1b"`, `"0a:1b:2c"`, `"0a:"`, `"a:1b"`, `"0g:1b"`, `"0a:1-"`, `"ä:1b"`, `27`, `["0a:1b"]`} {
		refused(t, "podMACPrefix", value, `want two bytes that a unicast MAC can begin with, like "0a:1b"`)
	}
}
