"""The built-in kinds under every name people use for them; all others are found by discovery."""

from __future__ import annotations

from fleet_devops.cluster.models import ResourceType

# group/version, plural, kind, namespaced, short names: `kubectl api-resources` of 1.36, read-worthy kinds.
_BUILT_IN = """
v1 configmaps ConfigMap y cm
v1 endpoints Endpoints y ep
v1 events Event y ev
v1 limitranges LimitRange y limits
v1 namespaces Namespace n ns
v1 nodes Node n no
v1 persistentvolumeclaims PersistentVolumeClaim y pvc
v1 persistentvolumes PersistentVolume n pv
v1 pods Pod y po
v1 replicationcontrollers ReplicationController y rc
v1 resourcequotas ResourceQuota y quota
v1 secrets Secret y -
v1 serviceaccounts ServiceAccount y sa
v1 services Service y svc
apiextensions.k8s.io/v1 customresourcedefinitions CustomResourceDefinition n crd,crds
apps/v1 daemonsets DaemonSet y ds
apps/v1 deployments Deployment y deploy
apps/v1 replicasets ReplicaSet y rs
apps/v1 statefulsets StatefulSet y sts
autoscaling/v2 horizontalpodautoscalers HorizontalPodAutoscaler y hpa
batch/v1 cronjobs CronJob y cj
batch/v1 jobs Job y -
coordination.k8s.io/v1 leases Lease y -
discovery.k8s.io/v1 endpointslices EndpointSlice y -
networking.k8s.io/v1 ingresses Ingress y ing
networking.k8s.io/v1 ingressclasses IngressClass n -
networking.k8s.io/v1 networkpolicies NetworkPolicy y netpol
policy/v1 poddisruptionbudgets PodDisruptionBudget y pdb
rbac.authorization.k8s.io/v1 clusterrolebindings ClusterRoleBinding n -
rbac.authorization.k8s.io/v1 clusterroles ClusterRole n -
rbac.authorization.k8s.io/v1 rolebindings RoleBinding y -
rbac.authorization.k8s.io/v1 roles Role y -
scheduling.k8s.io/v1 priorityclasses PriorityClass n pc
storage.k8s.io/v1 storageclasses StorageClass n sc
"""


def _read() -> dict[str, ResourceType]:
    names: dict[str, ResourceType] = {}
    for line in _BUILT_IN.strip().splitlines():
        api, plural, kind, namespaced, short = line.split()
        group, _, version = api.rpartition("/")
        resource = ResourceType(group, version, plural, kind, namespaced == "y")
        names |= dict.fromkeys((plural, kind.lower(), *short.split(",")), resource)
    names.pop("-")
    return names


_BY_NAME = _read()


def built_in(name: str) -> ResourceType | None:
    """Return the built-in kind that goes by `name`: kind, plural, singular or short name, in any case."""
    return _BY_NAME.get(name.lower())
