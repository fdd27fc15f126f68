#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# Runs tests through the gotestsum given, and ends with how many passed, failed
# and were skipped, and the names of those that failed or were cut off: on this
# kernel ("host"), and those that need another on a user-mode Linux one ("uml").
# "fault" is every fault there can be on both kernels, of which the others have a
# part. "checks" are the targets of the Makefile that are no tests of this kind.
# A skipped test fails the run: what a test needs is installed by hack/packages.sh
# or built by the Makefile.
set -eu
gotestsum=$1
shift

# older are the tests of whole plugins that run on the older kernel as well.
older='^Test(Traffic|TrafficWithoutCoordinator|HostLinkMacvlan|RouteTraffic|SBR|AddAgain|PrintedOutputs|VethWithoutVeth|TwoNICsByBridge|ExplainLinkScenarios|DoctorOfScenarios)$'

# nftables are tests of pkg/kernel and pkg/survey that need nf_tables with the families inet and ip.
nftables='^Test(Chains|ClosedLater|ServiceAddrs|LoadBalancerAddrs|Backends|SimulatorDoesWhatNftablesDoes)$'

# A package is cut off after this time. It is there for what hangs: a slow machine
# needs a part of it.
longest=2h

# What is run is built once, here; see integration/main_test.go.
MULTIHOME_BUILT=$PWD/bin
export MULTIHOME_BUILT
CGO_ENABLED=0 go build -o bin/test/ ./integration/fault/inject

mkdir -p .cache
rm -f .cache/test*.json
run() { # run NAME ARGUMENTS OF go test
	name=$1
	shift
	go run "$gotestsum" --format pkgname-and-test-fails --jsonfile ".cache/test-$name.json" \
		-- -count=1 -timeout "$longest" "$@" || failed=$?
}
on_uml() { # on_uml NAME ARGUMENTS OF go test
	name=$1
	shift
	CGO_ENABLED=0 run "$name" -tags uml -exec "$PWD/hack/uml.sh" ./integration/uml "$@"
}
tests() { # tests WHAT: all there are of a kind
	failed=0
	case $1 in
	host) run host ./... ;;
	uml)
		on_uml uml
		# That kernel is an older one, too (6.1): the engine's tests, trace's, and each mode by
		# traffic, once more. It has next to nothing of nf_tables, so tests that look
		# at that can't run there.
		export CGO_ENABLED=0
		run older -exec "$PWD/hack/uml.sh" -skip "$nftables" ./pkg/kernel ./pkg/survey ./pkg/records ./pkg/neighbours ./pkg/lab ./pkg/fib ./pkg/trace
		run older-lab -exec "$PWD/hack/uml.sh" ./cmd/multihome -run '^TestLabUp$/^(vlan|bond)$'
		run older-show -exec "$PWD/hack/uml.sh" ./pkg/show -run '^TestStates$/^(vlan|bond)$'
		run older-whole -exec "$PWD/hack/uml.sh" ./integration -run "$older"
		# A kernel without IPv6.
		UML_KERNEL=ipv6.disable=1 run older-v4 -exec "$PWD/hack/uml.sh" ./integration -run '^TestTraffic$/^v4$'
		;;
	fault)
		longest=24h
		run fault-host ./integration/fault -run '^TestFaults$' -faults-for 0
		UML_TIMEOUT=86400 on_uml fault-uml -run '^TestFaults$' -faults-for 0
		;;
	checks) make --no-print-directory --keep-going checks || failed=$? ;;
	esac
	return "$failed"
}

# The first kind runs to be seen. The user-mode kernel has one processor, and half of
# the other tests' time is waiting: so the others run beside it, and are shown later.
status=0
beside=
for kind in "$@"; do
	[ "$kind" != "$1" ] || continue
	(tests "$kind" >".cache/$kind.log" 2>&1) &
	beside="$beside $kind:$!"
done
trap 'for b in $beside; do kill "${b#*:}" 2>/dev/null || true; done' INT TERM
tests "$1" || status=$?
for b in $beside; do
	if wait "${b#*:}"; then :; else
		status=$?
		failures="${failures-}failed: ${b%:*}, see above
"
	fi
	cat ".cache/${b%:*}.log"
done

# What a matrix says of each mode and verb, and all of it together.
faults() { sed -n 's/.*"Output":" *[a-z_]*\.go:[0-9]*: \(faults: .*\)\\n".*/\1/p' .cache/test-*.json; }
case " $* " in *" fault "*) faults ;; *) faults | grep ': drew ' || true ;; esac
faults | awk -F '[:,] *' '
	{ for (i = 2; i <= NF; i++) { split($i, words, " "); if (words[2] == "faults") faults += words[1]; if (words[2] == "kills") kills += words[1] } }
	END { print "faults: " faults + 0 " injected, " kills + 0 " kills survived" }'

# Every test that failed, or began and never ended, by its name; of a package without
# any such test, the package.
awk '
	function value(key) { return match($0, "\"" key "\":\"[^\"]*\"") ? substr($0, RSTART + length(key) + 4, RLENGTH - length(key) - 5) : "" }
	{
		action = value("Action"); package = value("Package"); test = package " " value("Test")
		if (action == "run" || action == "start") going[test] = 1
		if (action == "pass" || action == "skip") delete going[test]
		if (action == "fail") { delete going[test]; failed[test] = 1 }
	}
	END {
		for (t in failed) if (t !~ / $/) { print "failed: " t; split(t, words, " "); named[words[1]] = 1 }
		for (t in going) { print "cut off: " t; split(t, words, " "); named[words[1]] = 1 }
		for (t in failed) { split(t, words, " "); if (t ~ / $/ && !(words[1] in named)) print "failed: " t "as a whole" }
	}' .cache/test-*.json | sort
printf %s "${failures-}"

# A package without tests is an event "skip" too, but one without a test's name.
count() { cat .cache/test-*.json | grep '"Test":' | grep -c "\"Action\":\"$1\"" || true; }
skipped=$(count skip)
if [ "$skipped" != 0 ]; then
	echo "a skipped test is a failure; see the names above"
	[ "$status" != 0 ] || status=1
fi
echo "tests: $(count pass) passed, $(count fail) failed, $skipped skipped"
exit "$status"
