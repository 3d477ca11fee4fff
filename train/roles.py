"""Who may see which image: four disjoint roles, split by groups, stratified by class."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from gensoup.runtime.errors import DataError

# Share of each class: what trains, what the search sees, what accepts a fusion, what is opened once at the end.
SHARES: Mapping[str, float] = {"train": 0.6, "search": 0.15, "soup": 0.1, "test": 0.15}
# The thesis' parts: what is called search accepts fusions too.
THREE_SHARES: Mapping[str, float] = {"train": 0.6, "search": 0.2, "test": 0.2}
MIN_GROUPS = 2  # of every class in every role

NEAR_DUPLICATE_BITS = 6  # of 64 that may differ between two views of one scene


def assign_roles(
    files: Sequence[str],
    targets: NDArray[np.int64],
    groups: Sequence[str],
    labels: Sequence[str],
    seed: int,
    role_shares: Mapping[str, float] = SHARES,
) -> dict[str, NDArray[np.int64]]:
    """Indices of each role, a pure function of the arguments.

    Groups are dealt from the largest to the smallest (the order of equal ones is drawn by a hash of their files and the
    seed), each to the role that lacks most of the group's classes; so no group stands on two sides.
    Raises DataError, saying how many are missing, when a class has too few groups for all the roles.
    """
    names, group_of = np.unique(np.asarray(groups), return_inverse=True)
    counts = np.zeros((len(names), len(labels)), np.int64)
    np.add.at(counts, (group_of, targets), 1)
    _check_group_count(counts, labels, role_shares)
    totals = counts.sum(0)
    shares = np.array(list(role_shares.values()))
    wanted = shares[:, None] * totals
    dealt, groups_dealt = np.zeros_like(wanted), np.zeros((len(role_shares), len(labels)), np.int64)
    first_file = {int(group): files[index] for index, group in reversed(list(enumerate(group_of)))}
    order = sorted(range(len(names)), key=lambda group: (-counts[group].sum(), _draw(first_file[group], seed)))
    role_of = np.zeros(len(names), np.int64)
    left = (counts > 0).sum(0)
    for group in order:
        present = counts[group] > 0
        owed = np.maximum(MIN_GROUPS - groups_dealt, 0)[:, present]
        # When as many groups are left of a class as the roles are still owed, those roles go first.
        urgent = ((owed > 0) & (owed.sum(0) >= left[present])).any(1)
        lack = ((wanted - dealt) / np.maximum(totals, 1))[:, present].sum(1) / np.sqrt(shares)
        role = int(np.argmax(np.where(urgent, lack + 1e3, lack)))
        role_of[group] = role
        dealt[role] += counts[group]
        groups_dealt[role] += present
        left -= present
    _check_roles(groups_dealt, labels, role_shares)
    return {name: np.flatnonzero(role_of[group_of] == number) for number, name in enumerate(role_shares)}


def near_duplicate_groups(hashes: NDArray[np.bool_]) -> list[str]:
    """Group names such that images whose perceptual hashes [N, 64] differ by a few bits share one."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    count = len(hashes)
    row, column = near_duplicate_pairs(hashes)
    graph = coo_array((np.ones(len(row), np.int8), (row, column)), shape=(count, count))
    _, group = connected_components(graph, directed=False)
    return [str(number) for number in group]


def near_duplicate_pairs(hashes: NDArray[np.bool_]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Indices, the smaller and the larger, of all pairs of hashes [N, 64] that differ by a few bits at most."""
    signs = np.where(hashes, 1, -1).astype(np.float32)
    limit = hashes.shape[1] - 2 * NEAR_DUPLICATE_BITS
    rows, columns = [np.empty(0, np.int64)], [np.empty(0, np.int64)]
    for start in range(0, len(hashes), 1024):
        near = np.argwhere(signs[start : start + 1024] @ signs[start:].T >= limit) + start
        upper = near[near[:, 0] < near[:, 1]]
        rows.append(upper[:, 0])
        columns.append(upper[:, 1])
    return np.concatenate(rows), np.concatenate(columns)


def _draw(file: str, seed: int) -> bytes:
    return hashlib.sha256(f"{seed}/{file}".encode()).digest()


def _check_group_count(counts: NDArray[np.int64], labels: Sequence[str], roles: Collection[str]) -> None:
    needed = MIN_GROUPS * len(roles)
    for label, present in zip(labels, (counts > 0).sum(0), strict=True):
        if present < needed:
            raise DataError(
                f"class '{label}' has {present} groups of images (near-duplicates count once) and needs {needed}, "
                f"{MIN_GROUPS} for each of {', '.join(roles)}: {needed - present} are missing"
            )


def _check_roles(groups_dealt: NDArray[np.int64], labels: Sequence[str], roles: Collection[str]) -> None:
    for role, row in zip(roles, groups_dealt, strict=True):
        for label, count in zip(labels, row, strict=True):
            if count < MIN_GROUPS:
                raise DataError(
                    f"class '{label}' got {count} groups in the role '{role}' and needs {MIN_GROUPS}: groups of "
                    f"groups.csv that hold several classes leave too few; add images or split those groups"
                )
