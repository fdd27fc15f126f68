// SPDX-License-Identifier: Apache-2.0

package doctor

// Kinds are all sorts of findings there are, as docs/doctor.md lists them.
var Kinds = []Kind{
	ipForward, rpFilterAll, proxyARP, arpIgnore,
	forwardPolicy, conntrackInvalid, kubeProxyModes,
	networkdForeign, networkdLinks, networkManagerLinks, nmCloudSetup,
	ciliumExclusive, ciliumSourceCheck, ciliumSocketLB, felixTables,
	neighbourTable, moduleMissing, sharedParent,
	leftover, drifted, nicGone, duplicateAddress, noDefaultRoute, noGateway, serviceRange,
}
