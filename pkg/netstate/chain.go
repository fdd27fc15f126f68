// SPDX-License-Identifier: Apache-2.0

package netstate

import (
	"fmt"
	"slices"
	"strings"
)

// MangleTable is the iptables table that holds our chains. Its chain OUTPUT routes
// a packet anew after its mark changed.
const MangleTable = "mangle"

// MarkChain is one of our chains in table mangle.
type MarkChain struct {
	Name  string
	From  string   // the built-in chain that jumps to it
	Rules []string // as iptables(8) prints them, without "-A" and the chain's name
}

// Jump returns the rule that jumps to the chain.
func (c MarkChain) Jump() string { return "-j " + c.Name }

// JumpLine returns the rule that jumps to the chain as iptables(8) prints it.
func (c MarkChain) JumpLine() string { return "-A " + c.From + " " + c.Jump() }

// Chains returns the chains of a Mark of backend Iptables.
func (m Mark) Chains() []MarkChain {
	bits := fmt.Sprintf("%#x", m.Bits)
	entering := "-i " + m.Dev
	if m.From != (MAC{}) {
		entering += " -m mac --mac-source " + strings.ToUpper(m.From.String())
	}
	entering += " -m conntrack --ctstate NEW -j CONNMARK --set-xmark " + bits + "/" + bits
	reply := "-m conntrack --ctdir REPLY -j CONNMARK --restore-mark --nfmask " + bits + " --ctmask " + bits
	return []MarkChain{
		{"MULTIHOME-PREROUTING", "PREROUTING", []string{entering, reply}},
		{"MULTIHOME-OUTPUT", "OUTPUT", []string{reply}},
	}
}

// saved returns the chains as iptables-save(8) prints them.
func (m Mark) saved() string {
	var names, jumps, rules strings.Builder
	for _, c := range m.Chains() {
		fmt.Fprintf(&names, ":%s - [0:0]\n", c.Name)
		fmt.Fprintln(&jumps, c.JumpLine())
		for _, r := range c.Rules {
			fmt.Fprintf(&rules, "-A %s %s\n", c.Name, r)
		}
	}
	return "*" + MangleTable + "\n" + names.String() + jumps.String() + rules.String() + "COMMIT\n"
}

// Restored returns the input of iptables-restore(8) --noflush that creates the
// chains. It inserts the jumps before foreign rules: such a rule may accept a
// packet, which then never reaches a later rule of the table.
func (m Mark) Restored() string {
	out := strings.NewReplacer("-A PREROUTING ", "-I PREROUTING ", "-A OUTPUT ", "-I OUTPUT ").Replace(m.saved())
	if strings.Contains(m.Dev, `"`) { // it begins a quotation (add_param_to_argv of iptables/xshared.c)
		quoted := `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(m.Dev) + `"`
		out = strings.Replace(out, "-i "+m.Dev+" ", "-i "+quoted+" ", 1)
	}
	return out
}

// markCommand returns an op on a Mark of backend Iptables as a command.
func markCommand(o Op) string {
	m := o.Object().(Mark)
	program := string(m.Kind())
	var lines []string
	if o.Before != nil {
		remove := program + " -t " + MangleTable
		for _, c := range slices.Backward(m.Chains()) {
			lines = append(lines, fmt.Sprintf("%s -D %s %s", remove, c.From, c.Jump()),
				fmt.Sprintf("%s -F %s", remove, c.Name), fmt.Sprintf("%s -X %s", remove, c.Name))
		}
	}
	if o.After != nil {
		lines = append(lines, program+"-restore --noflush <<END\n"+m.Restored()+"END")
	}
	return strings.Join(lines, "; ")
}
