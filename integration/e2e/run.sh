#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
#
# run.sh CASES [CLUSTER...]: runs the cases whose names match the pattern, in one kind of
# cluster after the other, by default in each that has such a case. The others also run
# if one fails. At the end there is one table of all cases.
set -euo pipefail
root=$(readlink -f "$(dirname "$0")/../..")
test=$root/.cache/e2e/bin/e2e.test
export E2E_RESULTS=$root/.cache/e2e/results
cases=$1
shift
kinds=${*:-$("$test" -kinds "$cases")}
rm -f "$E2E_RESULTS"

# A signal ends this cluster, and starts no further one.
trap 'kill "$cluster"; wait "$cluster"; exit 1' INT TERM HUP
status=0
for kind in $kinds; do
	echo "e2e: cluster $kind"
	E2E_CLUSTER=$kind "$root/integration/e2e/cluster.sh" e2e.test -test.timeout 1h -test.run "TestCases/($cases)" <&0 &
	cluster=$!
	wait "$cluster" || status=1
done
"$test" -table
exit "$status"
