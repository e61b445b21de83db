"""A small DICOM series of the phantom, as a scanner would store it: one file a slice, with a patient's name."""

from pathlib import Path

import numpy as np
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, MRImageStorage

import phantom

NAME = "DOE^JANE"


def write(
    folder: Path,
    number: int = 3,
    description: str = "t1_mprage",
    slices: slice = slice(None),
    values: np.ndarray | None = None,
    affine: np.ndarray | None = None,
) -> np.ndarray:
    """Write axial slices of the phantom, or of other RAS+ values (0 to 4095) with a diagonal affine; returns them."""
    folder.mkdir(parents=True, exist_ok=True)
    if values is None or affine is None:
        values, affine = phantom.head().values, phantom.head().affine
    spacing, (x, y, z) = np.diag(affine)[:3], affine[:3, 3]
    root = f"1.2.826.0.1.3680043.8.498.{number}"
    for k in range(values.shape[2])[slices]:
        meta = FileMetaDataset()
        meta.MediaStorageSOPClassUID = MRImageStorage
        meta.MediaStorageSOPInstanceUID = f"{root}.{k + 1}"
        meta.TransferSyntaxUID = ExplicitVRLittleEndian
        one = FileDataset(None, {}, file_meta=meta, preamble=bytes(128))
        one.SOPClassUID, one.SOPInstanceUID = MRImageStorage, meta.MediaStorageSOPInstanceUID
        one.StudyInstanceUID, one.SeriesInstanceUID, one.FrameOfReferenceUID = f"{root}.91", f"{root}.92", f"{root}.93"
        one.PatientName, one.PatientID, one.PatientBirthDate, one.PatientSex = NAME, NAME, "19700102", "F"
        one.InstitutionName, one.StudyDate, one.AcquisitionDate = "St Elsewhere", "20200304", "20200304"
        one.AcquisitionTime = one.StudyTime = "101112"
        one.Modality, one.Manufacturer, one.ImageType = "MR", "SIEMENS", ["ORIGINAL", "PRIMARY", "M"]
        one.SeriesNumber, one.InstanceNumber, one.AcquisitionNumber = number, k + 1, 1
        one.SeriesDescription = one.ProtocolName = description
        one.PatientComments, one.ImageComments = NAME, NAME
        one.MRAcquisitionType, one.RepetitionTime, one.EchoTime, one.FlipAngle = "3D", 2300, 3, 9
        one.SliceThickness, one.SpacingBetweenSlices = spacing[2], spacing[2]
        one.PixelSpacing = [spacing[1], spacing[0]]
        # DICOM is LPS, and its rows run from front to back here: the first voxel is at the largest x and y of RAS.
        corner = np.array([x, y]) + (np.array(values.shape[:2]) - 1) * spacing[:2]
        one.ImagePositionPatient = [-float(corner[0]), -float(corner[1]), float(z + k * spacing[2])]
        one.ImageOrientationPatient = [1, 0, 0, 0, 1, 0]
        pixels = values[::-1, ::-1, k].T.astype("<u2")
        one.Rows, one.Columns = pixels.shape
        one.SamplesPerPixel, one.PhotometricInterpretation = 1, "MONOCHROME2"
        one.BitsAllocated, one.BitsStored, one.HighBit, one.PixelRepresentation = 16, 12, 11, 0
        one.PixelData = pixels.tobytes()
        one.save_as(folder / f"{number:03d}_{k:03d}.dcm", enforce_file_format=True)
    return values
