# `make demo` shows the main job, `make test` tests everything; both do all
# the set-up that they need. CONTRIBUTING.md says more.

# A root shell made by `su` may lack these directories; nft and ip are in sbin.
export PATH := $(PATH):/usr/local/go/bin:/usr/sbin:/sbin

# Versions of the tools that are only run, not imported, so go.mod doesn't have them.
GOTESTSUM     = gotest.tools/gotestsum@v1.13.0
GOLANGCI_LINT = github.com/golangci/golangci-lint/v2/cmd/golangci-lint@v2.12.2

# The binaries are static and the same from a clone as from an archive.
RELEASE = -trimpath -buildvcs=false -ldflags "-s -w"

# All that compiles controlplane/ does it in this way: Kubernetes' libraries take minutes.
CONTROLPLANE = CGO_ENABLED=0 GOFLAGS="-trimpath -buildvcs=false"

# The CNI project's plugins, after which ours are chained, in the version of go.mod.
# Their own module file builds them, so that their libraries stay out of ours.
UPSTREAM    = github.com/containernetworking/plugins
CNI_PLUGINS = main/macvlan main/ipvlan main/ptp main/bridge main/host-device \
	main/vlan meta/tuning ipam/host-local ipam/static

# The name of the image that `make image` makes, which the manifests in deploy/ use,
# and its processors.
IMAGE         = localhost/multihome:dev
IMAGE_ARCHES  = amd64 arm64

# Packages whose tests make no system call, where the race detector is quick.
PURE = ./pkg/netstate/... ./pkg/netconf/... ./pkg/ipam/... ./pkg/manifest/... ./pkg/plugin/... ./pkg/config/... ./pkg/attachment/... ./pkg/coordinator/... ./pkg/route/... ./pkg/owntable/... ./pkg/hostlink/... ./pkg/canvas/... ./plugins/...

# How long each fuzz target runs in `make test`.
FUZZTIME = 2s

# The cases that `make e2e` runs, as a pattern of go test -run: C0000[1-4], restart, ...
CASES = .

# The kinds of cluster in which it runs them; without any, all that have such a case.
CLUSTERS =

.PHONY: build cni-plugins demo demo-cluster test checks test-uml test-kernels e2e fault bench bench-scale bench-addresses generate generated test-controlplane simulate lint race fuzz fmt clean image deploy-check deploy-tests root

build: ## the plugins and the command, into bin/
	CGO_ENABLED=0 go build $(RELEASE) -o bin/ ./plugins/... ./cmd/multihome

cni-plugins: ## macvlan, host-local and others of the CNI project, into bin/cni/
	@version=$$(go list -m -f '{{.Version}}' $(UPSTREAM)) && \
	echo "building $(CNI_PLUGINS) of $(UPSTREAM) $$version into bin/cni" && \
	CGO_ENABLED=0 GOBIN=$(CURDIR)/bin/cni go install $(RELEASE) \
		$(foreach p,$(CNI_PLUGINS),$(UPSTREAM)/plugins/$p@$$version)

image: ## an OCI image and its list of contents, bin/image/multihome.{tar,cdx.json}
	@rm -rf bin/image
	$(foreach a,$(IMAGE_ARCHES),CGO_ENABLED=0 GOOS=linux GOARCH=$a go build $(RELEASE) -o bin/image/linux-$a/ ./plugins/... ./cmd/multihome && \
		GOOS=linux GOARCH=$a $(CONTROLPLANE) go -C controlplane build -ldflags "-s -w" -o $(CURDIR)/bin/image/linux-$a/ ./cmd/multihome-controller ./cmd/multihome-agent && ) \
	go -C integration/deploy run ./image -name $(IMAGE) -binaries $(CURDIR)/bin/image -o $(CURDIR)/bin/image/multihome

deploy-check: root build cni-plugins deploy-tests ## the image, the chart, the kustomizations, the examples

deploy-tests: image
	go -C integration/deploy vet ./...
	go -C integration/deploy test -count=1 ./...

# The last line is one plain command, so make runs it without a shell: a signal to make
# reaches it, and it cleans up.
demo: root build cni-plugins ## a pod on a macvlan NIC, built and shown in namespaces
	bin/multihome lab --cni-path bin,bin/cni

# Here, too.
demo-cluster: root ## pods with addresses in a cluster of two nodes, made here without containers
	@hack/packages.sh
	hack/demo-cluster

test: root ## everything, with a count at the end
	@hack/packages.sh
	@$(MAKE) --no-print-directory build cni-plugins
	@unformatted=$$(gofmt -l .) && test -z "$$unformatted" || \
		{ echo "not formatted, run make fmt:"; echo "$$unformatted"; exit 1; }
	go vet ./...
	go vet -tags uml ./integration/uml
	go vet -tags e2e ./integration/e2e
	$(CONTROLPLANE) go -C controlplane vet ./...
	@hack/test.sh $(GOTESTSUM) host uml controlplane checks

# The part of `make test` that is no test on this kernel.
checks: lint generated race deploy-tests fuzz

test-uml: root ## the tests that need bonds and VLANs, on a user-mode Linux kernel
	@hack/packages.sh
	@$(MAKE) --no-print-directory build cni-plugins
	@hack/test.sh $(GOTESTSUM) uml

# Runs for hours; `make test` runs a sample of it.
fault: root ## makes each system call of each plugin fail in turn, and kills the plugin there
	@hack/packages.sh
	@$(MAKE) --no-print-directory build cni-plugins
	@hack/test.sh $(GOTESTSUM) fault

test-kernels: root ## what has to hold on every kernel, on the oldest and the newest one and Debian's
	@hack/packages.sh kernels
	@$(MAKE) --no-print-directory build cni-plugins
	@hack/test.sh $(GOTESTSUM) kernels

# The last line is one plain command here, too.
e2e: root ## pods in Kubernetes clusters of two nodes, made here, with a table at the end
	@hack/packages.sh e2e
	@$(MAKE) --no-print-directory build image
	@$(MAKE) --no-print-directory cni-plugins CNI_PLUGINS="$(CNI_PLUGINS) main/loopback"
	@integration/e2e/build.sh
	integration/e2e/run.sh '$(CASES)' $(CLUSTERS)

bench: root ## compares whole processes with a minimal program; FORMER=DIR: and with the plugins there
	@hack/packages.sh
	@$(MAKE) --no-print-directory cni-plugins CNI_PLUGINS=main/macvlan
	go run ./integration/bench $(if $(FORMER),-former $(FORMER))
	CGO_ENABLED=0 go run -exec "$(CURDIR)/hack/uml.sh" ./integration/bench -ifacer $(if $(FORMER),-former $(FORMER))

bench-scale: root ## measures how ADD grows with node and pod, as a table and a plot
	go run ./integration/bench -scale docs/performance-scale.svg

bench-addresses: ## measures how fast pods get addresses, and what the controller needs for it
	$(CONTROLPLANE) go -C controlplane build -o ../bin/ ./cmd/multihome-controller ./bench
	hack/with-apiserver bin/bench -controller bin/multihome-controller

generate: ## the CustomResourceDefinitions and deep copies, of the Go types
	@hack/generate.sh

generated:
	@hack/generate.sh -check

test-controlplane: ## the tests of controlplane/, with a Kubernetes API made here
	@hack/test.sh $(GOTESTSUM) controlplane

# How many schedules `make simulate` runs without applications, and as many with them.
SCHEDULES = 100000

simulate: ## the control plane in a simulated cluster: at random, all schedules of small scopes, and without each protection
	$(CONTROLPLANE) go -C controlplane test -count=1 -timeout 24h -v ./simulate -schedules $(SCHEDULES) -owning $(SCHEDULES) -all

# The cache is the clone's own: from another clone's it repeats issues under paths of that one.
lint: ## golangci-lint by .golangci.yml
	GOLANGCI_LINT_CACHE=$(CURDIR)/.cache/golangci go run $(GOLANGCI_LINT) run ./...
	cd controlplane && $(CONTROLPLANE) GOLANGCI_LINT_CACHE=$(CURDIR)/.cache/golangci go run $(GOLANGCI_LINT) run ./...

race: ## the pure packages under the race detector
	go test -race -timeout 2h $(PURE)

fuzz: ## each fuzz target for FUZZTIME
	@hack/fuzz.sh $(FUZZTIME)

fmt: ## gofmt, in place
	gofmt -w .

clean: ## removes the files that the other targets made
	rm -rf bin .cache

root:
	@test "$$(id -u)" = 0 || { echo "this needs root, because it makes network namespaces: \
	run it in a root shell, or with sudo" >&2; exit 1; }
