"""Correspondence between families of heads."""

from dataclasses import replace

import numpy as np

from omote.head.correspondence import in_topology_of
from omote.head.region import head_region
from omote.head.shipped import shipped_head


def test_a_family_on_other_vertices_has_the_same_surface() -> None:
    head = shipped_head()
    # The shipped head with its vertices in another order is another topology of the same family.
    order = np.random.default_rng(0).permutation(head.num_vertices)
    back = np.argsort(order)
    other = replace(
        head,
        name="shuffled",
        template_mm=head.template_mm[order],
        faces=back[head.faces].astype(np.int32),
        identity_mm=head.identity_mm[:, order],
        expression_mm=head.expression_mm[:, order],
        landmark_vertices=back[head.landmark_vertices],
        unit_style=None,
    )
    mapped = in_topology_of(other, head)
    rng = np.random.default_rng(1)
    identity, arkit = rng.normal(0, 0.7, head.num_identity).astype(np.float32), np.zeros(52, np.float32)
    arkit[[17, 23, 24]] = 0.8
    face = head_region(head).face
    off = np.linalg.norm(mapped.vertices(identity, arkit) - head.vertices(identity, arkit), axis=1)[face]
    assert np.median(off) < 0.35, "the head fitted to itself slides little"
    assert in_topology_of(head, head) is head
