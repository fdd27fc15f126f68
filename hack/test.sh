#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# Runs tests through the gotestsum given, and ends with how many passed, failed
# and were skipped: on this kernel ("host"), and those that need another on a
# user-mode Linux one ("uml"). "fault" is every fault there can be on both kernels,
# of which the others have a part. A skipped test fails the run: what a test needs
# is installed by hack/packages.sh or built by the Makefile.
set -eu
gotestsum=$1
shift

# older are the tests of whole plugins that run on the older kernel as well.
older='^Test(Traffic|TrafficWithoutCoordinator|HostLinkMacvlan|RouteTraffic|SBR|AddAgain|PrintedOutputs|VethWithoutVeth|TwoNICsByBridge|ExplainLinkScenarios|DoctorOfScenarios)$'

# nftables are tests of pkg/kernel that need nf_tables with the families inet and ip.
nftables='^Test(Chains|ClosedLater|ServiceAddrs|SimulatorDoesWhatNftablesDoes)$'

mkdir -p .cache
rm -f .cache/test*.json
run() { # run NAME ARGUMENTS OF go test
	name=$1
	shift
	go run "$gotestsum" --format pkgname-and-test-fails --jsonfile ".cache/test-$name.json" \
		-- -count=1 -timeout 30m "$@" || failed=$?
}
on_uml() { # on_uml NAME ARGUMENTS OF go test
	name=$1
	shift
	CGO_ENABLED=0 go build -o .cache/inject ./integration/fault/inject
	CGO_ENABLED=0 run "$name" -tags uml -exec "$PWD/hack/uml.sh" ./integration/uml "$@"
}
tests() { # tests WHAT: all there are of a kind
	failed=0
	case $1 in
	host) run host ./... ;;
	uml)
		on_uml uml -strikes 1
		# That kernel is an older one, too (6.1): the engine's tests, trace's, and each mode by
		# traffic, once more. It has next to nothing of nf_tables, so tests that look
		# at that can't run there.
		export CGO_ENABLED=0
		run older -exec "$PWD/hack/uml.sh" -skip "$nftables" ./pkg/kernel ./pkg/lab ./pkg/fib ./pkg/trace
		run older-lab -exec "$PWD/hack/uml.sh" ./cmd/multihome -run '^TestLabUp$/^(vlan|bond)$'
		run older-show -exec "$PWD/hack/uml.sh" ./pkg/show -run '^TestStates$/^(vlan|bond)$'
		run older-whole -exec "$PWD/hack/uml.sh" ./integration -built ../bin -run "$older"
		;;
	fault)
		run fault-host -timeout 12h ./integration -run '^TestFaults$' -strikes 0
		UML_TIMEOUT=43200 on_uml fault-uml -timeout 12h -run '^TestFaults$' -strikes 0
		;;
	esac
	return "$failed"
}

# The first kind runs to be seen. The user-mode kernel has one processor, and half of
# the other tests' time is waiting: so the second runs beside it, and is shown later.
status=0
beside=
if [ -n "${2-}" ]; then
	tests "$2" >".cache/$2.log" 2>&1 &
	beside=$!
	trap 'kill $beside' INT TERM
fi
tests "$1" || status=$?
if [ -n "$beside" ]; then
	wait "$beside" || status=$?
	cat ".cache/$2.log"
fi

# What a matrix says of each mode and verb, and all of it together.
faults() { sed -n 's/.*"Output":" *[a-z_]*_test\.go:[0-9]*: \(faults: .*\)\\n".*/\1/p' .cache/test-*.json; }
case " $* " in *" fault "*) faults ;; esac
faults | awk -F '[:,] *' '
	{ for (i = 2; i <= NF; i++) { split($i, words, " "); if (words[2] == "faults") faults += words[1]; if (words[2] == "kills") kills += words[1] } }
	END { print "faults: " faults + 0 " injected, " kills + 0 " kills survived" }'

# A package without tests is an event "skip" too, but one without a test's name.
count() { cat .cache/test-*.json | grep '"Test":' | grep -c "\"Action\":\"$1\"" || true; }
skipped=$(count skip)
if [ "$skipped" != 0 ]; then
	echo "a skipped test is a failure; see the names above"
	[ "$status" != 0 ] || status=1
fi
echo "tests: $(count pass) passed, $(count fail) failed, $skipped skipped"
exit "$status"
