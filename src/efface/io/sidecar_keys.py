"""Which keys of a sidecar describe the acquisition, and which values they may have; nothing else leaves with a scan.

The keys are those of the BIDS schema for MRI, without those that name people, places or devices and without free text,
and those that dcm2niix writes about physics. A value is looked at too: text that a person may have typed, dates, times,
identifiers, paths and nested objects do not pass under the name of a harmless key.
"""

import math
import re
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

LARGEST_NUMBER = 1e7
"""Dates (20200102), seconds since 1970 and identifiers are larger; parameters in BIDS units are not."""
MOST_VALUES, DEEPEST_LIST = 10_000, 2
CODE = re.compile(r"[A-Z0-9][A-Z0-9_\\]{0,63}")
"""A value as DICOM codes it: FAST_GEMS, ORIGINAL, HFS."""
NAME = re.compile(r"[A-Za-z0-9*][A-Za-z0-9 _.,;:*+()\\&#=-]{0,63}")
"""A name given by a manufacturer: MAGNETOM Prisma Fit, *tfl3d1_16ns, HEA;HEP. No slash: it would be a path."""
MOST_WORDS = 6
MONTHS = "jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec"
TRACES = re.compile(
    r"(?<!\d)(19|20)\d\d[-._ ]?(0[1-9]|1[0-2])[-._ ]?(0[1-9]|[12]\d|3[01])(?!\d)"  # 2020-01-02, 20200102
    r"|(?<!\d)\d{1,2}[-._ ]\d{1,2}[-._ ](19|20)\d\d(?!\d)"  # 2.1.2020
    rf"|(?<!\d)\d{{1,2}}[-._ ]?({MONTHS})[a-z]*[-._ ]?\d{{2,4}}"  # 2 Jan 2020
    rf"|\b({MONTHS})[a-z]*[-._ ]\d{{1,2}}[, ]"  # January 2, 2020
    r"|\d{1,2}:\d\d"  # 10:30
    r"|\d{7,}"  # identifiers
    r"|\d+(\.\d+){4,}",  # UIDs
    re.IGNORECASE,
)
"""Dates, times and identifiers inside a text."""


def _number(value: Any, depth: int = DEEPEST_LIST) -> bool:
    if isinstance(value, list):
        return bool(depth) and len(value) <= MOST_VALUES and all(_number(item, depth - 1) for item in value)
    if isinstance(value, bool) or not isinstance(value, int | float):
        return False
    return abs(value) < LARGEST_NUMBER and math.isfinite(value)


def _flag(value: Any) -> bool:
    return isinstance(value, bool)


def _texts(check: Callable[[str], bool]) -> Callable[[Any], bool]:
    def passes(value: Any) -> bool:
        items = value if isinstance(value, list) else [value]
        return len(items) <= MOST_VALUES and all(isinstance(item, str) and check(item) for item in items)

    return passes


def _is_code(text: str) -> bool:
    return CODE.fullmatch(text) is not None and TRACES.search(text) is None


def _is_name(text: str) -> bool:
    is_short = len(text.split()) <= MOST_WORDS
    return is_short and NAME.fullmatch(text) is not None and TRACES.search(text) is None


def _one_of(*words: str) -> Callable[[Any], bool]:
    """One of these words, or several of them joined as dcm2niix joins DICOM values."""
    known = frozenset(words)
    return _texts(lambda text: text in known or set(re.split(r"[\\_]", text)) <= known)


MISSING = "n/a"
TIME_OF_DAY = re.compile(r"\d\d:\d\d:\d\d")
"""Of PET, to which all its times are relative: BIDS requires it, and it holds no date."""
IMAGE_PATH = re.compile(
    r"(bids::(sub-[A-Za-z0-9+]+/)?)?(ses-[A-Za-z0-9+]+/)?(anat|func|dwi|fmap|perf|pet)/[A-Za-z0-9+_-]+\.nii(\.gz)?"
)
"""How a field map names the images that it is for: names of BIDS, which the data set shows anyway."""


def _is_image_path(text: str) -> bool:
    return IMAGE_PATH.fullmatch(text) is not None and TRACES.search(text) is None


_code, _name = _texts(_is_code), _texts(_is_name)
_direction = _one_of("i", "i-", "j", "j-", "k", "k-")
_NUMBERS = (
    # BIDS
    "AcquisitionDuration", "DwellTime", "EchoTime", "EffectiveEchoSpacing", "FlipAngle", "InversionTime",
    "MTNumberOfPulses", "MTOffsetFrequency", "MTPulseBandwidth", "MTPulseDuration", "MagneticFieldStrength",
    "MixingTime", "MultibandAccelerationFactor", "NumberReceiveCoilActiveElements", "NumberShots",
    "NumberTransmitCoilActiveElements", "ParallelReductionFactorInPlane", "ParallelReductionFactorOutOfPlane",
    "PartialFourier", "RepetitionTime", "RepetitionTimeExcitation", "RepetitionTimePreparation", "SliceTiming",
    "SpoilingGradientDuration", "SpoilingGradientMoment", "SpoilingRFPhaseIncrement", "TablePosition",
    "TotalReadoutTime", "VolumeTiming", "NumberOfVolumesDiscardedByScanner", "NumberOfVolumesDiscardedByUser",
    "BackgroundSuppressionNumberPulses", "BackgroundSuppressionPulseTime", "BolusCutOffDelayTime", "LabelingDistance",
    "LabelingDuration", "LabelingEfficiency", "LabelingPulseAverageB1", "LabelingPulseAverageGradient",
    "LabelingPulseDuration", "LabelingPulseFlipAngle", "LabelingPulseInterval", "LabelingPulseMaximumGradient",
    "LabelingSlabThickness",
    # PET
    "AnaestheticDose", "DecayCorrectionFactor", "DoseCalibrationFactor", "FrameDuration", "FrameTimesStart",
    "ImageDecayCorrectionTime", "InfusionRadioactivity", "InfusionSpeed", "InfusionStart", "InjectedMass",
    "InjectedRadioactivity", "InjectedVolume", "InjectionEnd", "InjectionStart", "MolarActivity", "PromptRate",
    "RandomRate", "ReconMethodParameterValues", "ScanStart", "ScatterFraction", "SinglesRate", "SpecificRadioactivity",
    "TracerMolecularWeight",
    # ASL
    "M0Estimate", "PostLabelingDelay", "TotalAcquiredPairs", "VascularCrushingVENC",
    # dcm2niix
    "AcquisitionMatrixPE", "AcquisitionVoxelSize", "BandwidthPerPixelPhaseEncode", "BaseResolution",
    "CompressedSensingFactor", "DelayTime", "DerivedVendorReportedEchoSpacing", "EchoNumber", "EchoTime1", "EchoTime2",
    "EchoTrainLength", "EstimatedEffectiveEchoSpacing", "EstimatedTotalReadoutTime", "FrequencyEncodingSteps",
    "ImageOrientationPatientDICOM", "ImagingFrequency", "MultiEchoShots", "NumberOfArms", "NumberOfAverages",
    "NumberOfExcitations", "NumberOfKSpaceTrajectories", "NumberOfPointsPerArm", "ParallelReductionOutOfPlane",
    "PercentPhaseFOV", "PercentSampling", "PhaseEncodingSteps", "PhaseEncodingStepsNoPartialFourier",
    "PhaseEncodingStepsOutOfPlane", "PhaseOversampling", "PhaseResolution", "PhilipsRWVIntercept", "PhilipsRWVSlope",
    "PhilipsRescaleIntercept", "PhilipsRescaleSlope", "PhilipsScaleSlope", "PixelBandwidth", "ReconFilterSize",
    "ReconMatrixPE", "RefLinesPE", "RepetitionTimeInversion", "SAR", "ShimSetting", "SliceThickness",
    "SpacingBetweenSlices", "TxRefAmp", "UsePhilipsFloatNotDisplayScaling", "VendorReportedEchoSpacing",
    "WaterFatShift",
)  # fmt: skip
_FLAGS = (
    "DispersionCorrected", "ImageDecayCorrected", "MetaboliteAvail", "MetaboliteRecoveryCorrectionApplied",
    "PlasmaAvail", "WholeBloodAvail",
    "BackgroundSuppression", "BolusCutOffFlag", "VascularCrushing",
    "MTState", "NegativeContrast", "NonlinearGradientCorrection", "SpoilingState", "WaterSuppression",
    "DeepLearning", "Interpolation2D", "Interpolation3D", "RawImage",
)  # fmt: skip
_CODES = (
    "BodyPart", "ParallelAcquisitionTechnique", "ScanOptions", "WaterSuppressionTechnique",
    "BodyPartExamined", "ImageType", "ImageTypeText", "Modality", "ReconFilterType",
)  # fmt: skip
_NAMES = (
    "B0ShimmingTechnique", "B1ShimmingTechnique", "CoilCombinationMethod", "GradientSetType",
    "HardcopyDeviceSoftwareVersion", "MRTransmitCoilSequence", "Manufacturer", "ManufacturersModelName",
    "MatrixCoilMode", "PulseSequenceType", "ReceiveCoilActiveElements", "ReceiveCoilName", "SequenceName",
    "SoftwareVersions",
    "CoilString", "ImageOrientationText", "InternalPulseSequenceName", "PulseSequenceName", "ResonantNucleus",
    "TransmitCoilName",
    "AcquisitionMode", "AttenuationCorrection", "ModeOfAdministration", "ReconMethodName", "ReconMethodParameterLabels",
    "MetaboliteMethod", "TracerName", "TracerRadionuclide",
    "B0FieldIdentifier", "B0FieldSource", "TaskName",
)  # fmt: skip
_WORDS = {
    "ArterialSpinLabelingType": ("CASL", "PCASL", "PASL"),
    "BolusCutOffTechnique": ("Q2TIPS", "QUIPSS", "QUIPSSII"),
    "CASLType": ("single-coil", "double-coil"),
    "M0Type": ("Separate", "Included", "Estimate", "Absent"),
    "PCASLType": ("balanced", "unbalanced"),
    **dict.fromkeys(
        (
            "Units", "InfusionSpeedUnits", "InjectedMassUnits", "InjectedRadioactivityUnits", "InjectedVolumeUnits",
            "MolarActivityUnits", "ReconMethodParameterUnits", "SpecificRadioactivityUnits",
            "TracerMolecularWeightUnits",
        ),
        (
            "Hz", "rad", "rad/s", "T", "arbitrary", "ms", "s", "1/s", "%", "ppm", "none", "unitless", "mm", "mL", "mL/s",
            "Bq", "kBq", "MBq", "GBq", "mCi", "Bq/mL", "kBq/mL", "g", "mg", "ug", "ng", "nmol", "umol", "g/mol", "g/mL",
            "Bq/g", "MBq/g", "GBq/g", "MBq/ug", "GBq/ug", "Bq/mol", "MBq/nmol", "GBq/umol", "MBq/umol", "Ci/mmol",
        ),
    ),
    "ContrastBolusIngredient": (
        "IODINE", "GADOLINIUM", "CARBON DIOXIDE", "BARIUM", "XENON", "UNKNOWN", "NONE",
    ),
    "MRAcquisitionType": ("1D", "2D", "3D"),
    "MTPulseShape": ("HARD", "GAUSSIAN", "GAUSSHANN", "SINC", "SINCHANN", "SINCGAUSS", "FERMI"),
    "PartialFourierDirection": ("PHASE", "FREQUENCY", "SLICE_SELECT", "SLICE", "SELECT", "COMBINATION"),
    "ScanningSequence": ("SE", "IR", "GR", "EP", "RM"),
    "SequenceVariant": ("SK", "MTC", "SS", "TRSS", "SP", "MP", "OSP", "NONE"),
    "SpoilingType": ("RF", "GRADIENT", "COMBINED"),
    "InPlanePhaseEncodingDirectionDICOM": ("ROW", "COL", "OTHER"),
    "PartialFourierEnabled": ("YES", "NO"),
    "PatientPosition": ("HFP", "HFS", "HFDR", "HFDL", "FFDR", "FFDL", "FFP", "FFS", "LFP", "LFS", "RFP", "RFS"),
    "PhaseEncodingAxis": ("i", "j", "k"),
    "PhaseEncodingPolarityGE": ("Unflipped", "Flipped"),
    "VariableFlipAngleFlag": ("YES", "NO"),
}  # fmt: skip

ALLOWED: Mapping[str, Callable[[Any], bool]] = MappingProxyType(
    {
        **dict.fromkeys(_NUMBERS, _number),
        **dict.fromkeys(_FLAGS, _flag),
        **dict.fromkeys(_CODES, _code),
        **dict.fromkeys(_NAMES, _name),
        **{key: _one_of(*words) for key, words in _WORDS.items()},
        "IntendedFor": _texts(_is_image_path),
        "TimeZero": lambda value: isinstance(value, str) and TIME_OF_DAY.fullmatch(value) is not None,
        **dict.fromkeys(("PhaseEncodingDirection", "SliceEncodingDirection"), _direction),
    }
)
"""Keys that stay, spelled exactly so, and what their values must be."""


def is_acquisition_parameter(key: str, value: Any) -> bool:
    """Whether a key of a sidecar describes the acquisition, with a value that can say nothing else."""
    check = ALLOWED.get(key)
    return check is not None and (value == MISSING or check(value))
