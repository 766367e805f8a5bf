"""A real kube-apiserver and etcd for tests, the demo and benchmarks; never a part of the product."""
