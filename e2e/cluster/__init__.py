# SPDX-License-Identifier: Apache-2.0
"""A disposable Kubernetes cluster for tests, demos and people.

Two sizes: the light control plane (`controlplane`: etcd, kube-apiserver, kube-controller-manager and
kwok's make-believe nodes, on loopback) and the real one (`native`: a kubelet, containerd and a network in
a namespace of their own; `kind` where Docker's engine runs).

Nothing here is shipped to users and nothing that is shipped may import it.
"""
