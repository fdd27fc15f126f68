// SPDX-License-Identifier: Apache-2.0

package applications_test

import (
	"errors"
	"fmt"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/multihome/multihome/controlplane/api/v1alpha1"
	"github.com/multihome/multihome/controlplane/identities"
	"github.com/multihome/multihome/pkg/ipam"
)

// machine makes an object of KubeVirt of the name vm, of another one if there is one.
func (b *bench) machine(kind string, of *unstructured.Unstructured) *unstructured.Unstructured {
	b.Helper()
	o := &unstructured.Unstructured{}
	o.SetAPIVersion(identities.KubeVirt + "/v1")
	o.SetKind(kind)
	o.SetNamespace(b.NS)
	o.SetName("vm")
	if of != nil {
		o.SetOwnerReferences([]metav1.OwnerReference{*metav1.NewControllerRef(of, of.GroupVersionKind())})
	}
	b.Eventually(kind, func() error { return b.C.Create(b.Context(), o) }) // discovery may be late
	return o
}

// launcher makes a pod of an instance.
func (b *bench) launcher(name string, vmi *unstructured.Unstructured, annotations map[string]string) *corev1.Pod {
	b.Helper()
	t := template("vm", annotations)
	p := &corev1.Pod{ObjectMeta: t.ObjectMeta, Spec: t.Spec}
	p.Namespace, p.Name = b.NS, name
	p.OwnerReferences = []metav1.OwnerReference{{APIVersion: vmi.GetAPIVersion(), Kind: vmi.GetKind(), Name: vmi.GetName(), UID: vmi.GetUID(), Controller: ptr.To(true)}}
	b.Create(p)
	return p
}

// kept waits until so many addresses are kept for identities.
func (b *bench) kept(n int) {
	b.Helper()
	b.Eventually(fmt.Sprintf("%d kept addresses", n), func() error {
		var all v1alpha1.IPAddressList
		if err := b.C.List(b.Context(), &all); err != nil {
			return err
		}
		got := 0
		for _, a := range all.Items {
			if a.Spec.State == v1alpha1.Reserved && a.Spec.Identity != nil {
				got++
			}
		}
		if got != n {
			return fmt.Errorf("%d are", got)
		}
		return nil
	})
}

// TestMachine: a virtual machine has one pool, of the size of one pod, and keeps it and its address while it
// is stopped, whoever asks for addresses of the subnet. The pool goes when its pods name no subnets any more,
// and with the machine.
func TestMachine(t *testing.T) {
	b := newBench(t)
	b.KubeVirt()
	b.Node("node1")
	b.Network("lan", "")
	b.subnet("s", "10.6.0.0/16", "10.6.0.10-10.6.0.12")
	b.start(nil)
	b.machines()
	vm := b.machine(identities.VirtualMachine, nil)
	vmi := b.machine(identities.Instance, vm)
	p := b.launcher("virt-launcher-vm-a", vmi, subnets("s"))
	first := b.running("vm", 1)
	b.pools(vm, "auto-vm-v4-net1-UID 10.6.0.10-10.6.0.11")
	stop := func() {
		t.Helper()
		b.Delete(vmi)
		if err := b.C.Delete(t.Context(), p); client.IgnoreNotFound(err) != nil {
			t.Fatal(err)
		}
		b.running("vm", 0)
	}
	stop()
	b.kept(1)
	other := b.deployment("other", 3, with(subnets("s"), ipam.IPNumberAnnotation, "+0"))
	b.says(other, "SubnetExhausted", "has none left")
	vmi = b.machine(identities.Instance, vm)
	p = b.launcher("virt-launcher-vm-b", vmi, subnets("s"))
	if got := b.running("vm", 1); got["virt-launcher-vm-b"] != first["virt-launcher-vm-a"] {
		t.Errorf("it had %v, and has %v", first, got)
	}
	b.size("auto-vm", 2)
	b.size("auto-other", 1)
	b.Delete(other)
	b.pools(vm, "auto-vm-v4-net1-UID 10.6.0.10-10.6.0.11")

	stop()
	vmi = b.machine(identities.Instance, vm)
	p = b.launcher("virt-launcher-vm-c", vmi, map[string]string{})
	b.Eventually("it runs without the NIC", func() error { // for the kubelet: it has no claim
		if err := b.C.Get(t.Context(), client.ObjectKeyFromObject(p), p); err != nil || p.Spec.NodeName == "" {
			return errors.Join(err, errors.New("it isn't bound"))
		}
		p.Status.Phase = corev1.PodRunning
		return b.C.Status().Update(t.Context(), p)
	})
	b.size("auto-vm", 1) // what is kept for the machine, until it is looked at again
	stop()
	b.Delete(vm)
	b.pools(vm)
	b.counts("s", 0)
}

// TestInstance: an instance without a virtual machine has a pool of its own.
func TestInstance(t *testing.T) {
	b := newBench(t)
	b.KubeVirt()
	b.Node("node1")
	b.Network("lan", "")
	b.subnet("s", "10.6.0.0/16", "10.6.0.10-10.6.0.12")
	b.start(nil)
	b.machines()
	vmi := b.machine(identities.Instance, nil)
	p := b.launcher("virt-launcher-vm-a", vmi, subnets("s"))
	b.running("vm", 1)
	b.pools(vmi, "auto-vm-v4-net1-UID 10.6.0.10-10.6.0.11")
	b.Delete(vmi)
	if err := b.C.Delete(t.Context(), p); client.IgnoreNotFound(err) != nil {
		t.Fatal(err)
	}
	b.pools(vmi)
	b.counts("s", 0)
}
