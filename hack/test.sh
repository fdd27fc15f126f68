#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# Runs all tests through the gotestsum given and ends with how many passed,
# failed and were skipped. A skipped test fails the run: what a test needs is
# installed by hack/packages.sh or built by the Makefile.
set -eu
gotestsum=$1

mkdir -p .cache
status=0
go run "$gotestsum" --format pkgname-and-test-fails --jsonfile .cache/test.json \
	-- -count=1 -timeout 30m ./... || status=$?

# A package without tests is an event "skip" too, but one without a test's name.
count() { grep '"Test":' .cache/test.json | grep -c "\"Action\":\"$1\"" || true; }
skipped=$(count skip)
if [ "$skipped" != 0 ]; then
	echo "a skipped test is a failure; see the names above"
	[ "$status" != 0 ] || status=1
fi
echo "tests: $(count pass) passed, $(count fail) failed, $skipped skipped"
exit "$status"
