// SPDX-License-Identifier: Apache-2.0

package doctor

// Kinds lists all kinds of findings, in the order of docs/doctor.md.
var Kinds = []Kind{
	ipForward, rpFilterAll, rpFilterNIC, acceptRA, proxyARP, arpIgnore,
	forwardPolicy, inputPolicy, conntrackInvalid, kubeProxyModes, notMasqueraded,
	networkdForeign, networkdLinks, networkManagerLinks, nmCloudSetup, ruleBeforeOurs,
	multusNotFirst, ciliumExclusive, ciliumSourceCheck, ciliumSocketLB, felixTables,
	neighbourTable, conntrackTable, moduleMissing, pluginMissing, parentUnfit, sharedParent,
	leftover, staleEntries, staleGroup, drifted, nicGone, nicDown, bridgedNIC,
	duplicateAddress, noDefaultRoute, noGateway, serviceRange, loadBalancerRange,
	agentNotReady, agentNotRunning, claimMissing, unclaimedSandbox, heldAddress, addressLost, foreignIPAM,
}
