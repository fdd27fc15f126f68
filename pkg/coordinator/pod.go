// SPDX-License-Identifier: Apache-2.0

package coordinator

import (
	"encoding/json"
	"errors"
	"fmt"
	"syscall"

	"github.com/multihome/multihome/pkg/spool"
)

// ofPod returns what the annotations of a container's pod say for coordinator. They are known
// of pods that have addresses from the spool.
func ofPod(containerID string) (map[string]json.RawMessage, error) {
	files, err := spool.OpenDir(spool.Dir)
	if errors.Is(err, syscall.ENOTDIR) {
		return nil, nil // there is a file in the way, and so no spool
	}
	if err != nil {
		return nil, err
	}
	nic, err := spool.DefaultRouteNIC(files, containerID)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", spool.Dir, err)
	}
	if nic == "" {
		return nil, nil
	}
	value, err := json.Marshal(nic)
	return map[string]json.RawMessage{"podDefaultRouteNIC": value}, err
}
