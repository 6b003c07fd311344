"""Coarser robot meshes: the arm's 64,000 triangles take two thirds of a frame's time and show nothing at 96 px."""

from __future__ import annotations

import mujoco
import numpy as np

CELL = 0.008  # m: about one pixel of the rendered frame at the camera's usual distance


def coarsen(model: mujoco.MjModel, geoms: np.ndarray, cell: float = CELL) -> int:
    """Merge the vertices of these geoms' meshes within each cell, in place, before a renderer uploads them.

    Faces that collapse are dropped; the others keep their corner normals, so that shading stays smooth. Only for meshes
    without collisions. Returns the number of faces left.
    """
    left = 0
    for mesh in {int(model.geom_dataid[g]) for g in geoms if model.geom_type[g] == mujoco.mjtGeom.mjGEOM_MESH}:
        first, count = model.mesh_faceadr[mesh], model.mesh_facenum[mesh]
        start = model.mesh_vertadr[mesh]
        vertices = model.mesh_vert[start : start + model.mesh_vertnum[mesh]]
        faces = model.mesh_face[first : first + count]
        _, keeper, group = np.unique(np.round(vertices / cell), axis=0, return_index=True, return_inverse=True)
        merged = keeper[group.ravel()][faces]
        a, b, c = merged.T
        kept = np.flatnonzero((a != b) & (b != c) & (a != c))
        for name in ("mesh_facenormal", "mesh_facetexcoord"):
            corners = getattr(model, name)
            corners[first : first + len(kept)] = corners[first + kept]
        model.mesh_face[first : first + len(kept)] = merged[kept]
        model.mesh_facenum[mesh] = len(kept)
        left += len(kept)
    return left
