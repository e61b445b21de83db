"""Where `efface.defacing.reshape` works: a frame on the head, the person's shape in it, and the shape that is wanted."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from scipy.spatial.transform import Rotation

from efface.anatomy import templates
from efface.anatomy.head_anatomy import HeadAnatomy
from efface.anatomy.head_shape import skin_distance
from efface.anatomy.skin import GRID_MM, skin_threshold, smoothed
from efface.anatomy.templates import FEATURE_LABELS
from efface.spatial.affine import apply_affine, invert
from efface.spatial.boxes import Box, box_corners, covering_box
from efface.spatial.masks import distance_mm
from efface.spatial.shape_registration import gradient
from efface.spatial.types import Affine, FloatVolume, Grid, Volume

FRAME = Grid((117, 102, 133), np.array([[2.0, 0, 0, -116], [0, 2.0, 0, -64], [0, 0, 2.0, -174], [0, 0, 0, 1.0]]))
"""Average-head mm, laid over the head without stretching it: everybody's face gets the same size."""
FACE_Y, FACE_TOP, FACE_BOTTOM = (-30.0, -5.0), (25.0, 75.0), (-165.0, -140.0)
"""Frame mm over which the wanted shape turns into the person's: behind, above and below the face."""
OWN_SIZE_Y, OWN_SIZE_Z = (-30.0, -5.0), (-8.0, 42.0)
"""Frame mm over which the wanted shape turns from everybody's size into the person's, towards ears and forehead."""
NEW_SKIN = (0.3, 0.9)
"""Share of the average shape in the wanted one from which the skin is made new, and from which it is new alone."""
EARS_MM = (4.0, 14.0)
"""From ears, the wanted shape turns into the person's over these distances."""
EARS_BLUR_MM = 5.0
"""Ears are thin and folded: their shapes are compared after smoothing by so much, and they move as a whole."""
ROOM_MM, ROOM_BLUR_MM = 11.0, 3.0
"""The skin is not moved nearer to the brain, where there is no room to move it; and how smoothly it is kept away."""
CORE_X_MM, CORE_Y_MM, CORE_Z_MM = 60.0, 45.0, (-112.0, -15.0)
"""The face: frame mm to both sides, in front of, and between."""
STILL_Y = (-35.0, -12.0)
"""Frame y up to which nothing moves but the ears, mm, and from which all may."""
POSE_STEPS, ROBUST_MM = 12, 4.0
"""Of the rigid fit of the face to the wanted one; points that are off by more count less."""
MOST_TURNED, MOST_MOVED_MM = 0.25, 20.0
"""A fit that turns the face by more (radians), or moves it by more, went astray: the pose of the head is taken."""


@dataclass(frozen=True, eq=False)
class Shapes:
    """The two shapes.

    Attributes
    ----------
    grid
        `FRAME`, on which they are.
    to_scan
        Frame mm to scan mm, rigid, shape (4, 4).
    own, average, wanted
        Signed distance to the person's skin, to the average one, and to the wanted one, positive inside, mm.
    allowed
        Share of a displacement that is applied, 0 to 1: 0 near the brain and behind the face.
    new_skin
        Share of the skin that is made new, 0 to 1: 1 in the face, 0 at ears, above and behind.
    threshold
        Intensity at the skin.
    """

    grid: Grid
    to_scan: Affine
    own: FloatVolume
    average: FloatVolume
    wanted: FloatVolume
    allowed: FloatVolume
    new_skin: FloatVolume
    threshold: float

    def box_in(self, there: NDArray[np.bool_], scan: Grid) -> Box:
        """The part of a scan's grid in which a part of the frame lies, with room; one voxel for nothing."""
        index = np.argwhere(there)
        if not len(index):
            return (slice(0, 1),) * 3
        corners = apply_affine(self.grid.affine, box_corners(index.min(axis=0), index.max(axis=0)))
        in_scan = apply_affine(invert(scan.affine) @ self.to_scan, corners)
        room_vox = 2 * self.grid.spacing_mm / scan.spacing_mm
        return covering_box(in_scan, scan.shape, room_vox=room_vox, at_least=1)


def smooth_step(values: NDArray[np.floating], ends: tuple[float, float]) -> NDArray[np.float64]:
    """0 up to the first end, 1 from the second on, smooth between; ends may be in either order."""
    ramp = np.clip((values - ends[0]) / (ends[1] - ends[0]), 0, 1)
    return np.asarray(ramp * ramp * (3 - 2 * ramp), dtype=np.float64)


def frame_mm() -> tuple[NDArray[np.float64], ...]:
    """Frame x, y and z of its voxels, mm, each of a shape that broadcasts to the frame's."""
    axes = np.ogrid[tuple(slice(n) for n in FRAME.shape)]
    return tuple(FRAME.affine[a, a] * axes[a] + FRAME.affine[a, 3] for a in range(3))


def find_shapes(anatomy: HeadAnatomy, strength: float, clear_mm: tuple[float, float]) -> Shapes:
    """Lay the frame over a head, and find the person's shape and the wanted one.

    Parameters
    ----------
    anatomy
        Of the scan; its registration and its brain mask are used.
    strength
        0: the wanted shape is the person's; 1: it is the average one.
    clear_mm
        Distances from the brain at which a displacement is 0, and whole.

    Raises
    ------
    RegistrationError
        If the average head was not found in the scan.
    """
    threshold, smooth = skin_threshold(anatomy.image), smoothed(anatomy.image, GRID_MM)
    to_scan = face_pose(smooth, threshold, anatomy.average_to_scan)
    face, at_ears = _region()
    own = _blurred(skin_distance(smooth, threshold, FRAME, to_scan), at_ears)
    region = np.maximum(face, at_ears)
    average = _blurred(_average(invert(anatomy.average_to_scan) @ to_scan), at_ears)
    from_brain = _brain_distance(anatomy, to_scan)
    wanted = _with_room(own + strength * region * (average - own), own, from_brain)
    clear = smooth_step(from_brain, clear_mm)
    allowed = clear * _free(region, at_ears)
    new_skin = clear * smooth_step(face * (1 - at_ears), NEW_SKIN)
    return Shapes(FRAME, to_scan, own, average, _single(wanted), _single(allowed), _single(new_skin), threshold)


def _single(values: NDArray[np.floating]) -> FloatVolume:
    return values.astype(np.float32)


def rigid_part(matrix: Affine) -> Affine:
    """The rotation and translation nearest to an affine, the same at the middle of the average face."""
    u, _, vt = np.linalg.svd(matrix[:3, :3])
    middle = np.array([0.0, 80.0, -50.0])
    rigid = np.eye(4)
    rigid[:3, :3] = u @ vt
    rigid[:3, 3] = apply_affine(matrix, middle) - rigid[:3, :3] @ middle
    return rigid


def core(y_from: float = CORE_Y_MM) -> NDArray[np.bool_]:
    """The part of the frame in which the face is."""
    x, y, z = frame_mm()
    return np.asarray((np.abs(x) < CORE_X_MM) & (y > y_from) & (z > CORE_Z_MM[0]) & (z < CORE_Z_MM[1]))


def face_pose(smooth: Volume, threshold: float, average_to_scan: Affine) -> Affine:
    """Where the average face fits that of a scan best without being stretched: rigid, frame mm to scan mm.

    Parameters
    ----------
    smooth, threshold
        As `skin_distance` wants them.
    average_to_scan
        Where the search starts.
    """
    start = rigid_part(average_to_scan)
    return start @ _fitted(skin_distance(smooth, threshold, FRAME, start), average_shape())


def average_shape() -> FloatVolume:
    """Signed distance to the average skin, in everybody's size, on the frame, mm."""
    return _sampled(templates.prior("face_shape"), np.eye(4))


def _fitted(own: FloatVolume, average: FloatVolume) -> Affine:
    """Rigid, frame mm to frame mm: moves the average face onto the person's, by what is off along the slopes."""
    mm = float(FRAME.spacing_mm[0])
    index = np.argwhere((np.abs(average) < mm / 2) & core())[::3]
    points, expected = apply_affine(FRAME.affine, index), average[tuple(index.T)]
    slopes = gradient(own, mm)
    pose = np.eye(4)
    for _ in range(POSE_STEPS):
        moved = apply_affine(pose, points)
        where = apply_affine(invert(FRAME.affine), moved).T
        off = ndimage.map_coordinates(own, where, order=1, mode="nearest") - expected
        slope = np.stack([ndimage.map_coordinates(s, where, order=1, mode="nearest") for s in slopes], axis=1)
        weight = 1 / (1 + np.square(off / ROBUST_MM))
        centre = moved.mean(axis=0)
        rows = np.hstack([np.cross(moved - centre, slope), slope])
        normal = (rows * weight[:, None]).T @ rows + 1e-3 * len(rows) * np.diag([100.0] * 3 + [1.0] * 3)
        turn_and_move = -np.linalg.solve(normal, (rows * weight[:, None]).T @ off)
        pose = _small_motion(turn_and_move, centre) @ pose
    turned = np.arccos(np.clip((np.trace(pose[:3, :3]) - 1) / 2, -1, 1))
    moved_mm = np.linalg.norm(apply_affine(pose, points).mean(axis=0) - points.mean(axis=0))
    return pose if turned <= MOST_TURNED and moved_mm <= MOST_MOVED_MM else np.eye(4)


def _small_motion(turn_and_move: NDArray[np.float64], centre: NDArray[np.float64]) -> Affine:
    """Rotation vector (radians) around a centre and then a translation, mm, as a matrix."""
    matrix = np.eye(4)
    matrix[:3, :3] = Rotation.from_rotvec(turn_and_move[:3]).as_matrix()
    matrix[:3, 3] = centre + turn_and_move[3:] - matrix[:3, :3] @ centre
    return matrix


def _average(to_average: Affine) -> FloatVolume:
    """The average shape: in the face in everybody's size, at ears and forehead in that of the person's head."""
    _, y, z = frame_mm()
    common = smooth_step(y, OWN_SIZE_Y) * smooth_step(z, (OWN_SIZE_Z[1], OWN_SIZE_Z[0]))
    own_size = to_average @ FRAME.affine
    shape = templates.prior("face_shape")
    index = np.stack(np.broadcast_arrays(*np.ogrid[tuple(slice(n) for n in FRAME.shape)]), axis=-1)
    share = common[..., None]
    points = share * apply_affine(FRAME.affine, index) + (1 - share) * apply_affine(own_size, index)
    where = np.moveaxis(apply_affine(invert(shape.affine), points), -1, 0)
    return np.asarray(ndimage.map_coordinates(shape.data, where, order=1, mode="nearest"), dtype=np.float32)


def _sampled(volume: Volume, to_volume: Affine, mode: str = "nearest") -> FloatVolume:
    """A volume on the frame."""
    matrix = invert(volume.affine) @ to_volume @ FRAME.affine
    values = ndimage.affine_transform(volume.data, matrix[:3, :3], matrix[:3, 3], FRAME.shape, order=1, mode=mode)
    return np.asarray(values, dtype=np.float32)


def _region() -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Where the wanted shape is the average one, 0 to 1: the face with the neck below it; and the ears."""
    _, y, z = frame_mm()
    face = smooth_step(y, FACE_Y) * smooth_step(z, (FACE_TOP[1], FACE_TOP[0])) * smooth_step(z, FACE_BOTTOM)
    features = templates.prior("features")
    ears = features.data == FEATURE_LABELS["ears"]
    from_ears = Volume(distance_mm(~ears, features.grid.spacing_mm).astype(np.float32), features.affine)
    at_ears = smooth_step(_sampled(from_ears, np.eye(4)), (EARS_MM[1], EARS_MM[0]))
    return np.broadcast_to(face, FRAME.shape), at_ears


def _blurred(signed: FloatVolume, where: NDArray[np.float64]) -> FloatVolume:
    """A signed distance that is smoothed in a part of the frame."""
    blurred = ndimage.gaussian_filter(signed, EARS_BLUR_MM / FRAME.spacing_mm)
    return np.asarray(signed + where * (blurred - signed), dtype=np.float32)


def _free(region: NDArray[np.float64], at_ears: NDArray[np.float64]) -> NDArray[np.float64]:
    """1 in a region, and 0 far from it, behind the face and at the border of the frame: displacements end there."""
    _, y, _ = frame_mm()
    far = distance_mm(region < 0.02, FRAME.spacing_mm)
    edge = np.ones(FRAME.shape, dtype=np.bool_)
    edge[0], edge[-1], edge[:, 0], edge[:, :, 0], edge[:, :, -1] = (False,) * 5
    inside = smooth_step(distance_mm(edge, FRAME.spacing_mm), (0.0, 28.0))
    return smooth_step(far, (20.0, 4.0)) * inside * np.maximum(smooth_step(y, STILL_Y), at_ears)


def _with_room(wanted: FloatVolume, own: FloatVolume, from_brain: FloatVolume) -> FloatVolume:
    """A wanted shape that leaves `ROOM_MM` between brain and skin, or as much as the person has."""
    least = np.minimum(own, ROOM_MM - from_brain)
    short = np.maximum(least - wanted, 0)
    return np.asarray(wanted + ndimage.gaussian_filter(short, ROOM_BLUR_MM / FRAME.spacing_mm), dtype=np.float32)


def _brain_distance(anatomy: HeadAnatomy, to_scan: Affine) -> FloatVolume:
    """Distance from the brain, on the frame, mm."""
    return _sampled(Volume(anatomy.brain_distance_mm, anatomy.scan.affine), to_scan)
