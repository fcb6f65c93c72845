"""Small fluid solvers in numpy: a box of cells, walls and obstacles enter, particles of a liquid or a grid of smoke
leave.

Blender's own Mantaflow is not used: in Blender as a Python module it ends the process (4.2 and later), and these
grids are small enough for numpy. The liquid is FLIP (Zhu and Bridson 2005), the smoke is Stam's stable fluids with
vorticity confinement (Fedkiw 2001). Cells lie on a grid [nx, ny, nz], faces of the axis a on a grid that is one
longer along a.
"""

import numpy as np

FLIP_SHARE = 0.95
PRESSURE_STEPS = 45
CELLS_A_STEP = 2.0


def interpolate(grid, points):
    """Trilinear values of `grid` at `points` given in its own index coordinates."""
    top = np.array(grid.shape) - 1
    points = np.clip(points, 0, top - 1e-6)
    base = np.minimum(points.astype(np.int64), np.maximum(top - 1, 0))
    share = points - base
    flat = grid.ravel()
    result = 0.0
    for corner, weight in _corners(share):
        index = np.minimum(base + corner, top)
        result = result + weight * flat[(index[:, 0] * grid.shape[1] + index[:, 1]) * grid.shape[2] + index[:, 2]]
    return result


def splat(values, points, shape):
    """The weighted sum of values around `points`, and the sum of the weights."""
    top = np.array(shape) - 1
    points = np.clip(points, 0, top - 1e-6)
    base = points.astype(np.int64)
    share = points - base
    size = int(np.prod(shape))
    total, weights = np.zeros(size), np.zeros(size)
    for corner, weight in _corners(share):
        index = np.minimum(base + corner, top)
        flat = (index[:, 0] * shape[1] + index[:, 1]) * shape[2] + index[:, 2]
        total += np.bincount(flat, weight * values, size)
        weights += np.bincount(flat, weight, size)
    return total.reshape(shape), weights.reshape(shape)


def _corners(share):
    for corner in np.ndindex(2, 2, 2):
        parts = [share[:, axis] if corner[axis] else 1 - share[:, axis] for axis in range(3)]
        yield np.array(corner), parts[0] * parts[1] * parts[2]


class _Box:
    """Cells with solid walls and obstacles, and the face velocities between them."""

    def __init__(self, shape, cell, solid):
        self.shape, self.cell = tuple(shape), cell
        self.solid = solid.copy()
        self.faces = [np.zeros([side + (axis == other) for other, side in enumerate(shape)]) for axis in range(3)]
        self.blocked = [self._blocked(axis) for axis in range(3)]
        self.pressure = np.zeros(shape)

    def _blocked(self, axis):
        """Faces that touch a solid cell or the outer wall."""
        pad = [(1, 1) if other == axis else (0, 0) for other in range(3)]
        padded = np.pad(self.solid, pad, constant_values=True)
        return np.logical_or(*_sides(padded, axis))

    def face_points(self, points, axis):
        """Cell coordinates (a cell's middle at +0.5) as index coordinates of the faces of an axis."""
        offset = np.array([0.0 if other == axis else 0.5 for other in range(3)])
        return points - offset

    def velocity(self, points):
        return np.stack([interpolate(self.faces[axis], self.face_points(points, axis)) for axis in range(3)], axis=1)

    def close_walls(self):
        for axis in range(3):
            self.faces[axis][self.blocked[axis]] = 0.0

    def divergence(self):
        return sum(np.diff(self.faces[axis], axis=axis) for axis in range(3))

    def project(self, fluid):
        """Take the divergence out of the fluid cells; where there is air beside them the pressure is 0."""
        open_faces = [~blocked for blocked in self.blocked]
        count = sum(sum(side.astype(float) for side in _sides(faces, axis)) for axis, faces in enumerate(open_faces))
        active = fluid & (count > 0)

        def laplace(pressure):
            result = np.zeros(self.shape)
            for axis in range(3):
                gradient = self._gradient(pressure, axis) * open_faces[axis]
                result -= np.diff(gradient, axis=axis)
            return np.where(active, result, 0.0)

        right = np.where(active, -self.divergence(), 0.0)
        pressure = np.where(active, self.pressure, 0.0)
        inverse = np.where(active, 1 / np.maximum(count, 1), 0.0)
        residual = right - laplace(pressure)
        scaled = inverse * residual
        direction, product = scaled.copy(), float((residual * scaled).sum())
        limit = 1e-6 * max(float((right * right).sum()), 1e-12)
        for _ in range(PRESSURE_STEPS):
            if float((residual * residual).sum()) < limit:
                break
            image = laplace(direction)
            length = product / max(float((direction * image).sum()), 1e-30)
            pressure += length * direction
            residual -= length * image
            scaled = inverse * residual
            following = float((residual * scaled).sum())
            direction = scaled + following / max(product, 1e-30) * direction
            product = following
        self.pressure = pressure
        for axis in range(3):
            self.faces[axis] -= self._gradient(pressure, axis) * open_faces[axis]
        self.close_walls()

    @staticmethod
    def _gradient(pressure, axis):
        pad = [(1, 1) if other == axis else (0, 0) for other in range(3)]
        return np.diff(np.pad(pressure, pad), axis=axis)


def _sides(values, axis):
    low = tuple(slice(None, -1) if other == axis else slice(None) for other in range(3))
    high = tuple(slice(1, None) if other == axis else slice(None) for other in range(3))
    return values[low], values[high]


class Liquid(_Box):
    """A liquid of particles. Positions are cell coordinates, velocities cells a second."""

    def __init__(self, shape, cell, solid, points, velocities, push):
        super().__init__(shape, cell, solid)
        self.points, self.velocities, self.push = points, velocities, push

    def advance(self, seconds, gravity):
        """One frame, in as many steps as its speed needs."""
        gravity = np.asarray(gravity) / self.cell
        fastest = (
            float(np.linalg.norm(self.velocities, axis=1).max(initial=0)) + float(np.linalg.norm(gravity)) * seconds
        )
        steps = int(np.clip(np.ceil(fastest * seconds / CELLS_A_STEP), 1, 6))
        for _ in range(steps):
            self._step(seconds / steps, gravity)

    def _step(self, seconds, gravity):
        self.velocities += gravity * seconds
        valid = []
        for axis in range(3):
            total, weights = splat(
                self.velocities[:, axis], self.face_points(self.points, axis), self.faces[axis].shape
            )
            self.faces[axis] = np.where(weights > 1e-6, total / np.maximum(weights, 1e-6), 0.0)
            valid.append(weights > 1e-6)
        self.close_walls()
        before = [faces.copy() for faces in self.faces]
        cells = np.minimum(self.points.astype(int), np.array(self.shape) - 1)
        fluid = np.zeros(self.shape, bool)
        fluid[cells[:, 0], cells[:, 1], cells[:, 2]] = True
        fluid &= ~self.solid
        self.project(fluid)
        picked = np.empty_like(self.velocities)
        change = np.empty_like(self.velocities)
        for axis in range(3):
            place = self.face_points(self.points, axis)
            known = np.maximum(interpolate(valid[axis].astype(float), place), 1e-3)
            picked[:, axis] = interpolate(self.faces[axis] * valid[axis], place) / known
            change[:, axis] = interpolate((self.faces[axis] - before[axis]) * valid[axis], place) / known
        self.velocities = FLIP_SHARE * (self.velocities + change) + (1 - FLIP_SHARE) * picked
        limit = 0.9 * CELLS_A_STEP * 2 / seconds
        self.velocities = np.clip(self.velocities, -limit, limit)
        self.points = self.points + picked * seconds
        self.points, self.velocities = self.push(self.points, self.velocities)
        top = np.array(self.shape) - 0.3
        outside = (self.points < 0.3) | (self.points > top)
        self.points = np.clip(self.points, 0.3, top)
        self.velocities[outside] = 0.0


class Smoke(_Box):
    """Smoke on the grid: density and heat, carried by the flow that the heat drives."""

    def __init__(self, shape, cell, solid, source, chance):
        super().__init__(shape, cell, solid)
        self.source, self.chance = source & ~solid, chance
        self.density, self.heat = np.zeros(shape), np.zeros(shape)
        index = np.indices(shape).reshape(3, -1).T + 0.5
        self.centers = index
        self.face_centers = [
            np.indices(faces.shape).reshape(3, -1).T + np.array([0.0 if other == axis else 0.5 for other in range(3)])
            for axis, faces in enumerate(self.faces)
        ]

    def advance(self, seconds, up, lift, speed):
        """One frame; `up` is against gravity, `lift` how strongly heat drives, `speed` that of the source in metres a
        second.
        """
        strength = self.chance.uniform(0.6, 1.0, self.shape)
        self.density = np.where(self.source, np.maximum(self.density, strength), self.density)
        self.heat = np.where(self.source, 1.0, self.heat)
        self.density *= 1 - 0.35 * seconds
        self.heat *= 1 - 0.5 * seconds
        force = np.asarray(up)[:, None, None, None] * (lift * self.heat / self.cell)
        force = force + self._confinement() + self.chance.normal(0, 1.5, (3, *self.shape)) * (self.density > 0.05)
        for axis in range(3):
            pad = [(1, 1) if other == axis else (0, 0) for other in range(3)]
            low, high = _sides(np.pad(force[axis], pad, mode="edge"), axis)
            self.faces[axis] = self.faces[axis] + (low + high) / 2 * seconds
        rising = np.pad(self.source, [(0, 0), (0, 0), (0, 1)])
        self.faces[2][rising] = np.maximum(self.faces[2][rising], speed / self.cell)
        self.close_walls()
        self.project(~self.solid & self._below_top())
        self._carry(seconds)

    def _below_top(self):
        # The uppermost layer is open air, so that smoke leaves the box instead of gathering below a lid.
        inside = np.ones(self.shape, bool)
        inside[:, :, -1] = False
        return inside

    def _carry(self, seconds):
        back = self.centers - self.velocity(self.centers) * seconds
        shape = self.shape
        self.density = interpolate(self.density, back - 0.5).reshape(shape)
        self.heat = interpolate(self.heat, back - 0.5).reshape(shape)
        self.density[self.solid] = self.heat[self.solid] = 0.0
        edge = np.zeros(shape, bool)
        edge[[0, -1]] = edge[:, [0, -1]] = edge[:, :, -1:] = True
        self.density[edge] = 0.0  # a box of fog would show where it touches its own walls
        moved = []
        for axis in range(3):
            origin = self.face_centers[axis] - self.velocity(self.face_centers[axis]) * seconds
            moved.append(interpolate(self.faces[axis], self.face_points(origin, axis)).reshape(self.faces[axis].shape))
        self.faces = moved
        self.close_walls()

    def _confinement(self):
        """Puts back the small whirls that the coarse grid loses."""
        u, v, w = [sum(_sides(self.faces[axis], axis)) / 2 for axis in range(3)]
        gradient = [np.gradient(part) for part in (u, v, w)]
        curl = np.stack(
            (gradient[2][1] - gradient[1][2], gradient[0][2] - gradient[2][0], gradient[1][0] - gradient[0][1])
        )
        size = np.linalg.norm(curl, axis=0)
        way = np.stack(np.gradient(size))
        way /= np.linalg.norm(way, axis=0) + 1e-6
        return 0.25 * np.cross(way, curl, axis=0)
