"""The seccomp annotation of Kubernetes before 1.27, which validation still compares with the field. Constants only.

A pod with the annotation and another value than these is accepted as long as `spec.securityContext.seccompProfile` is
not set; with RuntimeDefault there, the API server refuses it ("seccomp type in annotation and field must match").
Source: kubernetes pkg/apis/core/validation, validateSeccompAnnotationsAndFields (1.32 to 1.37). The annotations of
containers are compared with the field of the container alone, which is never set here.
"""

from typing import Final

POD_ANNOTATION: Final = "seccomp.security.alpha.kubernetes.io/pod"
# An empty value is refused with and without the field.
COMPATIBLE_VALUES: Final = ("", "runtime/default", "docker/default")
