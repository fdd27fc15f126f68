#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# Runs every fuzz target of the project for the given time, one after the other. It builds
# each package once; `go test -fuzz` would build it again for each of its targets.
set -eu
time=$1
cd "$(dirname "$0")/.."

packages=$(grep -rl --include='*_test.go' '^func Fuzz' cmd controlplane integration pkg plugins | xargs -n 1 dirname | sort -u)
test -n "$packages" || { echo "fuzz: no target found" >&2; exit 1; }

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
corpus=$(go env GOCACHE)/fuzz # go test keeps inputs with new coverage here
for package in $packages; do
	(cd "$package" && go test -c -fuzz . -o "$work/test" .) # in its module
	targets=$(cd "$package" && "$work/test" -test.list '^Fuzz')
	for target in $targets; do
		echo "fuzz: $package $target for $time"
		(
			cd "$package"
			"$work/test" -test.run '^$' -test.fuzz "^$target\$" -test.fuzztime "$time" -test.fuzzminimizetime 10x \
				-test.fuzzcachedir "$corpus/multihome/$package" >"$work/log" 2>&1 </dev/null
		) && continue
		# Until Go 1.27 the end of the fuzzing time is sometimes reported as a
		# failure (go.dev/issue/75804). A real failure names the failing input.
		if grep -qx '    context deadline exceeded' "$work/log" && ! grep -q 'Failing input' "$work/log"; then
			continue
		fi
		cat "$work/log"
		exit 1
	done
done
