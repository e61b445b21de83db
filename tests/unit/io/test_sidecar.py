"""Of a sidecar only acquisition parameters stay, whatever is hidden under their names; and what was done is said."""

import json
from pathlib import Path

import pytest
from bidsschematools.schema import load_schema
from hypothesis import given
from hypothesis import strategies as st

from efface.io.deidentification import CID_7050, record_of
from efface.io.sidecar import UNNAMED, Sidecar, sidecar_of
from efface.io.sidecar_keys import ALLOWED, is_acquisition_parameter

SCANNER = {
    "Modality": "MR", "MagneticFieldStrength": 3, "ImagingFrequency": 123.254, "Manufacturer": "Siemens",
    "ManufacturersModelName": "MAGNETOM Prisma Fit", "BodyPartExamined": "BRAIN", "PatientPosition": "HFS",
    "SoftwareVersions": "syngo MR E11", "MRAcquisitionType": "3D", "ScanningSequence": "GR_IR",
    "SequenceVariant": "SK_SP_MP", "ScanOptions": "IR", "SequenceName": "*tfl3d1_16ns",
    "ImageType": ["ORIGINAL", "PRIMARY", "M", "ND", "NORM"], "SliceThickness": 1, "SAR": 0.05, "EchoTime": 0.00298,
    "RepetitionTime": 2.3, "InversionTime": 0.9, "FlipAngle": 9, "PartialFourier": 1, "BaseResolution": 256,
    "ShimSetting": [1374, -7321, -8217, 403, 188, -58, -146, -148], "TxRefAmp": 243.9, "PhaseResolution": 1,
    "ReceiveCoilName": "Head_32", "ReceiveCoilActiveElements": "HEA;HEP", "CoilString": "HE1-4",
    "PhaseEncodingDirection": "j-", "SpoilingState": True, "ImageOrientationPatientDICOM": [0, 1, 0, 0, 0, -1],
    "InPlanePhaseEncodingDirectionDICOM": "ROW", "DwellTime": 7.4e-06, "MTState": False,
}  # fmt: skip
"""What dcm2niix writes for an MPRAGE."""
HOLES = {
    "00100010": "Doe^Jane", "(0010,0010)": "Doe^Jane", "PersonName": "Jane Doe", "DOB": "1970-01-01", "MRN": "12345",
    "StudyDescription": "MRI for Jane Doe", "StationAETitle": "AE", "RetrieveAETitle": "AE", "acq_time": "2020-01-02",
    "ReasonForStudy": "memory", "SourceFile": "/home/jane/x.dcm", "UserName": "jane", "InstitutionName": "Hospital",
    "DeviceSerialNumber": "167006", "StationName": "MR1", "ProtocolName": "Jane", "SeriesDescription": "Jane",
    "PatientName": "Doe^Jane", "PATIENTNAME": "Doe^Jane", "patient_name": "Jane", "echotime": 0.003, "ECHOTIME": 0.003,
    "PulseSequenceDetails": "%CustomerSeq%_jane", "AcquisitionTime": "10:30:00", "ImageComments": "Jane",
    "global": {"const": {"PatientName": "Jane", "EchoTime": 0.003}}, "Sources": ["/home/jane/x"], "Recipe": {},
    "AnatomicalLandmarkCoordinates": {"NAS": [1, 2, 3]},
}  # fmt: skip
LEFT_OUT = {
    "DeviceSerialNumber", "StationName", "InstitutionName", "InstitutionAddress", "InstitutionalDepartmentName",
    "PulseSequenceDetails", "BodyPartDetails", "BodyPartDetailsOntology",  # free text
    "AnatomicalLandmarkCoordinates__mri",  # points of the face
    "DeidentificationMethod", "DeidentificationMethodCodeSequence",  # written anew
}  # fmt: skip


def content_of(tmp_path, content, **options):
    (tmp_path / "in.json").write_text(json.dumps(content))
    return Sidecar.of(tmp_path / "in.nii.gz", tmp_path / "out.nii.gz", **options)


@pytest.mark.parametrize("name", ["a_T1w.nii.gz", "a_T1w.nii", "a_T1w.mgz", "a_T1w.mgh", "a_T1w.NII.GZ"])
def test_a_sidecar_lies_beside_its_image(name):
    assert sidecar_of(Path("x") / name) == Path("x/a_T1w.json")


def test_the_keys_are_those_of_the_bids_schema_for_mri_but_for_what_names_somebody():
    schema = load_schema()
    groups = [*schema.rules.sidecars.mri.values(), schema.rules.sidecars.anat.MRIAnatomyCommonMetadataFields]
    keys = {key for group in groups for key in group.fields}
    assert keys - set(ALLOWED) == LEFT_OUT


def test_what_bids_requires_of_any_image_is_allowed():
    sidecars = load_schema().rules.sidecars
    required = set()
    for kind in ("func", "fmap", "dwi", "asl", "pet", "anat", "mri"):
        for group in sidecars[kind].values():
            for key, level in group.fields.items():
                if (level if isinstance(level, str) else level.get("level")) == "required":
                    required.add(key.split("__")[0])
    assert len(required) > 30
    assert required <= set(ALLOWED), sorted(required - set(ALLOWED))


def test_every_word_that_the_bids_schema_lists_is_allowed():
    metadata = load_schema().objects.metadata
    listed = {key: metadata[key]["enum"] for key in ALLOWED if key in metadata and "enum" in metadata[key]}
    assert len(listed) > 4
    for key, words in listed.items():
        assert [word for word in words if not is_acquisition_parameter(key, word)] == [], key


def test_what_a_scanner_says_about_physics_stays(tmp_path):
    made = content_of(tmp_path, SCANNER)
    assert made.content == SCANNER
    assert made.removed == made.warnings == ()


def test_all_else_is_removed_and_named(tmp_path):
    made = content_of(tmp_path, {**HOLES, **SCANNER})
    assert made.content == SCANNER
    assert made.removed == tuple(HOLES)


def test_a_key_that_may_be_a_name_itself_is_not_named(tmp_path):
    assert content_of(tmp_path, {"Jane Doe": 1, "DOE^JANE": 2}).removed == (UNNAMED,)


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("EchoTime", "Jane Doe"), ("EchoTime", {"note": "Jane"}), ("EchoTime", [["Jane"]]), ("EchoTime", True),
        ("EchoTime", 20200102), ("RepetitionTime", 20200102.0), ("InversionTime", 1577923200), ("FlipAngle", None),
        ("FlipAngle", [[[[9]]]]), ("SliceTiming", [0.1, "10:30"]), ("SAR", float("nan")), ("SAR", float("inf")),
        ("MTState", "Jane"), ("SoftwareVersions", "20200102"), ("SoftwareVersions", "E11 2020-01-02"),
        ("SoftwareVersions", "2 Jan 2020"), ("SoftwareVersions", "1.2.840.113619.2.55.3"),
        ("SoftwareVersions", "02.01.2020"), ("SoftwareVersions", "January 2, 2020"), ("CoilString", "10:30:12"),
        ("ManufacturersModelName", "the scanner that Jane Doe was seen in on Monday"),
        ("ManufacturersModelName", "Doe^Jane"), ("Manufacturer", "jane@hospital.org"),
        ("SequenceName", "/home/jane/mprage"), ("SequenceName", "x" * 100), ("SequenceName", "a\nb"),
        ("ImageType", ["ORIGINAL", "Jane Doe"]), ("ImageType", ["ORIGINAL", {"name": "Jane"}]),
        ("ScanOptions", "asked for by Dr. Smith"), ("ScanningSequence", "JANE"), ("PatientPosition", "Jane"),
        ("PhaseEncodingDirection", "Jane"), ("BodyPartExamined", "head of Jane"), ("ReceiveCoilName", ["a", ["b"]]),
        ("Modality", "20200102"),
    ],
)  # fmt: skip
def test_nothing_hides_under_the_name_of_a_parameter(tmp_path, key, value):
    made = content_of(tmp_path, {key: value, "EchoTrainLength": 1})
    assert made.content == {"EchoTrainLength": 1}
    assert made.removed == (key,)


@given(key=st.sampled_from(sorted(ALLOWED)), text=st.text(st.characters(min_codepoint=0x80), min_size=1))
def test_no_parameter_holds_other_characters_than_those_of_codes(key, text):
    assert not is_acquisition_parameter(key, text)


def test_keys_are_kept_when_asked_spelled_as_in_the_file(tmp_path):
    made = content_of(tmp_path, {"ProtocolName": "x", "protocolname": "y", "EchoTime": 1}, keep=("ProtocolName",))
    assert made.content == {"ProtocolName": "x", "EchoTime": 1}
    assert made.removed == ("protocolname",)


@pytest.mark.parametrize("text", ["", "{", "[1]", "\xff", '{"a":' * 5000 + "1" + "}" * 5000, "[" * 900 + "]" * 900])
def test_a_sidecar_that_cannot_be_used_is_a_warning(tmp_path, text):
    (tmp_path / "in.json").write_bytes(text.encode("latin-1"))
    made = Sidecar.of(tmp_path / "in.nii", tmp_path / "out.nii")
    assert made.content == {}
    assert len(made.warnings) == 1
    assert "not carried over" in made.warnings[0]


# --- what was done -------------------------------------------------------------------------------------------------


def test_the_method_is_said_in_the_form_of_bids_and_the_code_of_dicom(tmp_path):
    made = content_of(tmp_path, {"EchoTime": 0.003}).with_method("pydeface", "native").content
    assert made["DeidentificationMethodCodeSequence"] == [
        {
            "CodeValue": "113102",
            "CodeMeaning": "Clean Recognizable Visual Features Option",
            "CodingSchemeDesignator": "DCM",
        }
    ]
    first, second = made["DeidentificationMethod"]
    assert "face removed by pydeface (native implementation)" in first
    assert "removed" in second
    schema = load_schema().objects.metadata
    assert schema.DeidentificationMethod["type"] == schema.DeidentificationMethodCodeSequence["type"] == "array"
    assert set(made["DeidentificationMethodCodeSequence"][0]) <= set(
        schema.DeidentificationMethodCodeSequence["items"]["properties"]
    )


def test_it_is_said_where_there_was_no_sidecar_before(tmp_path):
    made = Sidecar.of(tmp_path / "in.nii", tmp_path / "out.nii").with_method("pydeface", "native")
    made.write(force=False)
    assert json.loads((tmp_path / "out.json").read_text()) == record_of("pydeface", "native", scrubbed=True)


def test_codes_of_an_earlier_deidentification_stay_and_its_text_goes(tmp_path):
    earlier = {
        "DeidentificationMethod": ["by Jane"],
        "DeidentificationMethodCodeSequence": [
            {"CodeValue": "113100", "CodeMeaning": "Jane Doe"}, {"CodeValue": "Jane"}, "Jane", {"CodeValue": ["x"]},
        ],
    }  # fmt: skip
    made = content_of(tmp_path, earlier)
    assert made.removed == ("DeidentificationMethod",)
    said = made.with_method("pydeface", "native").content
    assert "Jane" not in json.dumps(said)
    codes = [item["CodeValue"] for item in said["DeidentificationMethodCodeSequence"]]
    assert codes == ["113100", "113102"]
    assert said["DeidentificationMethodCodeSequence"][0]["CodeMeaning"] == CID_7050["113100"]
    kept = content_of(tmp_path, earlier, policy="keep").with_method("pydeface", "native").content
    assert kept["DeidentificationMethod"][0] == "by Jane"
    assert len(kept["DeidentificationMethod"]) == 2
    codes = kept["DeidentificationMethodCodeSequence"]
    assert codes[:-1] == earlier["DeidentificationMethodCodeSequence"]
    assert codes[-1]["CodeValue"] == "113102"


@pytest.mark.parametrize("policy", ["scrub", "keep"])
def test_a_face_that_was_left_on_purpose_is_not_said_to_be_removed(tmp_path, policy):
    made = content_of(tmp_path, {"EchoTime": 0.003}, policy=policy).with_method("reshape", "native", leaves_face=True)
    assert "removed by" not in made.content["DeidentificationMethod"][0]
    assert "left in part, by reshape" in made.content["DeidentificationMethod"][0]
    assert made.content["DeidentificationMethodCodeSequence"] == []


@pytest.mark.parametrize("policy", ["scrub", "keep"])
def test_a_face_that_was_removed_before_is_said(tmp_path, policy):
    done = content_of(tmp_path, record_of("reshape", "native", scrubbed=True), policy=policy)
    assert "in.json says that the face was removed before" in " ".join(done.warnings)
    assert not content_of(tmp_path, record_of("reshape", "native", scrubbed=True, leaves_face=True)).warnings
