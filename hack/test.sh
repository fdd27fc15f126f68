#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
#
# Runs tests with the given gotestsum. It ends with the number of tests that passed,
# failed and were skipped, and the names of those that failed or were cut off. The other
# arguments choose the tests: "host" runs all on this kernel, "uml" runs those that need
# other drivers on a user-mode Linux kernel, "controlplane" runs those of controlplane/ with a
# Kubernetes API, "kernels" runs what has to hold on every kernel on those of hack/kernels.sh,
# "fault" injects every fault on both kernels (the first two inject a sample), and "checks" runs
# the Makefile's target of that name. Each argument runs beside the others; host,uml runs one
# kind after the other.
# A skipped test fails the run: hack/packages.sh installs, or the Makefile builds,
# everything that tests need.
set -eu
gotestsum=$1
shift

# whole matches the tests of whole plugins that run on every kernel.
whole='^Test(Traffic|TrafficWithoutCoordinator|HostLinkMacvlan|RouteTraffic|SBR|AddAgain|PrintedOutputs|VethWithoutVeth|TwoNICsByBridge|ExplainLinkScenarios|DoctorOfScenarios)$'

# nftables matches the tests of pkg/kernel and pkg/survey that need nf_tables with the families inet and ip.
nftables='^Test(Chains|ClosedLater|ServiceAddrs|LoadBalancerAddrs|Backends|SimulatorDoesWhatNftablesDoes)$'

# A package is cut off after this time, in case a test hangs: even a slow machine needs
# less.
longest=2h

# The program that injects faults is built once, here; see
# integration/fixture/binaries.go.
MULTIHOME_BUILT=$PWD/bin
export MULTIHOME_BUILT
CGO_ENABLED=0 go build -o bin/test/ ./integration/fault/inject

mkdir -p .cache
rm -f .cache/test*.json
run() { # run NAME ARGUMENTS OF go test
	name=$1
	shift
	$with go run "$gotestsum" --format pkgname-and-test-fails --jsonfile "$PWD/.cache/test-$name.json" \
		-- -count=1 -timeout "$longest" "$@" || failed=$?
}
with= # a command that runs the tests of a kind
on_uml() { # on_uml NAME ARGUMENTS OF go test
	name=$1
	shift
	CGO_ENABLED=0 run "$name" -tags uml -exec "$PWD/hack/uml.sh" ./integration/uml "$@"
}
tests() { # tests KIND: runs all tests of a kind
	failed=0
	case $1 in
	host) run host -parallel 4 ./... ;; # they wait for the kernel half of their time
	uml)
		on_uml uml
		export CGO_ENABLED=0
		run uml-lab -exec "$PWD/hack/uml.sh" ./cmd/multihome -run '^TestLabUp$/^(vlan|bond)$'
		run uml-show -exec "$PWD/hack/uml.sh" ./pkg/show -run '^TestStates$/^(vlan|bond)$'
		# A kernel without IPv6.
		UML_KERNEL=ipv6.disable=1 run uml-v4 -exec "$PWD/hack/uml.sh" ./integration -run '^TestTraffic$/^v4$'
		;;
	kernels)
		export CGO_ENABLED=0
		kernels=$(hack/kernels.sh)
		table=
		for kernel in $kernels; do # NAME=FILE
			name=kernel-${kernel%%=*}
			export UML_LINUX="${kernel#*=}"
			# Debian's kernel has almost nothing of nf_tables, so tests of nf_tables can't run there.
			skip='^$'
			[ -n "$UML_LINUX" ] || skip=$nftables
			all=$failed failed=0
			run "$name" -exec "$PWD/hack/uml.sh" -skip "$skip" ./pkg/kernel ./pkg/survey ./pkg/records ./pkg/neighbours ./pkg/lab ./pkg/fib ./pkg/trace
			run "$name-whole" -exec "$PWD/hack/uml.sh" ./integration -run "$whole"
			on_uml "$name-links" -skip '^TestFaults$'
			table="$table$name: $([ "$failed" = 0 ] && echo passed || echo failed)
"
			[ "$failed" != 0 ] || failed=$all
		done
		printf %s "$table"
		;;
	controlplane)
		with="$PWD/hack/with-apiserver env -C $PWD/controlplane"
		# As the image's controller: so Kubernetes' libraries are compiled only once.
		export CGO_ENABLED=0 GOFLAGS="-trimpath -buildvcs=false"
		# One package at a time: they share the server, and its one SpiderCoordinator.
		run controlplane -p 1 $(go -C controlplane list ./... | grep -v /cmd/)
		# These look after all namespaces, and try the policies: each has an API of its own.
		run controllers ./cmd/multihome-controller
		run agents ./cmd/multihome-agent
		;;
	fault)
		longest=24h
		run fault-host ./integration/fault -run '^TestFaults$' -faults-for 0
		run fault-mending ./integration/mending -run '^TestFaults$' -strikes 0
		UML_TIMEOUT=86400 on_uml fault-uml -run '^TestFaults$' -faults-for 0
		;;
	checks) make --no-print-directory --keep-going checks || failed=$? ;;
	esac
	return "$failed"
}

in_turn() { # in_turn KIND,KIND: one after the other
	worst=0
	for kind in $(echo "$1" | tr , ' '); do
		tests "$kind" || worst=$?
	done
	return "$worst"
}

# The output of the first argument's kinds is shown as they run. The user-mode kernel has
# one processor, and the other tests wait half of their time: so the other kinds run beside
# the first, and their output is shown later.
status=0
beside=
for kinds in "$@"; do
	[ "$kinds" != "$1" ] || continue
	(in_turn "$kinds" >".cache/$kinds.log" 2>&1) &
	beside="$beside $kinds:$!"
done
trap 'for b in $beside; do kill "${b#*:}" 2>/dev/null || true; done' INT TERM
in_turn "$1" || status=$?
for b in $beside; do
	if wait "${b#*:}"; then :; else
		status=$?
		failures="${failures-}failed: ${b%:*}, see above
"
	fi
	cat ".cache/${b%:*}.log"
done

# Prints the summary of the faults of each mode and verb, and their sum.
faults() { sed -n 's/.*"Output":" *[a-z_]*\.go:[0-9]*: \(faults: .*\)\\n".*/\1/p' .cache/test-*.json; }
case " $* " in *" fault "*) faults ;; *) faults | grep ': drew ' || true ;; esac
faults | awk -F '[:,] *' '
	{ for (i = 2; i <= NF; i++) { split($i, words, " "); if (words[2] == "faults") faults += words[1]; if (words[2] == "kills") kills += words[1] } }
	END { print "faults: " faults + 0 " injected, " kills + 0 " kills survived" }'

# Prints the name of every test that failed, or began and never ended, and of every
# failed package without such a test.
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

# A package without tests is also an event "skip", but without a test's name.
count() { cat .cache/test-*.json | grep '"Test":' | grep -c "\"Action\":\"$1\"" || true; }
skipped=$(count skip)
if [ "$skipped" != 0 ]; then
	echo "a skipped test is a failure; see the names above"
	[ "$status" != 0 ] || status=1
fi
echo "tests: $(count pass) passed, $(count fail) failed, $skipped skipped"
exit "$status"
