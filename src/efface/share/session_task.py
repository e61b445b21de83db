"""The work on one session: look at its images, decide, write, and keep a record of it."""

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from efface._version import __version__
from efface.bids.shareable import shareable
from efface.errors import InputError
from efface.io.atomic import as_private_as
from efface.share.decisions import (
    VOTED,
    Decision,
    Reference,
    decide_carried,
    decide_reference,
    decide_with,
    fingerprint,
    in_order,
)
from efface.share.head_image import HeadImage, file_sha256, open_image
from efface.share.inventory import Found
from efface.share.publish import edit_of, publish
from efface.share.records import (
    Became,
    FileRow,
    ImageRecord,
    SessionRecord,
    read_record,
    record_path,
    write_record,
)
from efface.share.settings import ShareSettings
from efface.share.votes import Vote
from efface.study import provenance
from efface.study.executor import Outcome
from efface.study.records import FAILED, Row

NO_REFERENCE = (
    "no image of this session can decide what is removed (no T1w, UNIT1, T2w, FLAIR ... that passes the checks): "
    "--across-sessions takes one of another session"
)
NO_MAGNITUDE = "it shows no magnitudes, and there is no magnitude image of its acquisition on its grid to check it by"


@dataclass(frozen=True)
class SessionTask:
    """All images of one session.

    Attributes
    ----------
    settings
        Of the run.
    subject, session
        Labels; session is empty where there is none.
    images
        Of the session.
    elsewhere
        Images of other sessions of the subject, one of which may decide.
    votes
        What reviewers said, by the fingerprint of what was voted on.
    """

    settings: ShareSettings
    subject: str
    session: str
    images: tuple[Found, ...]
    elsewhere: tuple[Found, ...] = ()
    votes: Mapping[str, Vote] = field(default_factory=dict)

    @property
    def name(self) -> str:
        """Name for progress and messages."""
        return f"sub-{self.subject}_ses-{self.session}" if self.session else f"sub-{self.subject}"

    @property
    def record(self) -> Path:
        """Where its record is."""
        return record_path(self.settings.out_dir, self.subject, self.session)

    def run(self) -> Outcome:
        """Decide and write everything anew.

        Raises
        ------
        OutputError
            If something cannot be written.
        """
        before = read_record(self.record)
        self.record.unlink(missing_ok=True)  # from here on the session is not done
        images = tuple(self._images())
        record = SessionRecord(self._recipe(), images)
        if before is not None:
            self._remove(set(before.outputs) - set(record.outputs))
        self._keep(record)
        return Outcome(self.name, self._failures(record), len(images))

    def lost(self, reason: str) -> Outcome:
        """Withhold every image of a session whose process died; what was written before is taken out."""
        before = read_record(self.record)
        rows = [FileRow(image.path, Became.WITHHELD, self._clean(reason)) for image in self.images]
        record = SessionRecord({}, tuple(ImageRecord(row) for row in rows))
        self._remove({image.path for image in self.images} | set(before.outputs if before else ()))
        self._keep(record)
        return Outcome(self.name, self._failures(record), len(rows))

    def is_up_to_date(self) -> bool:
        """Whether the record is of these files, settings and votes, and all that was written is there."""
        record = read_record(self.record)
        if record is None or record.recipe != provenance.as_json(self._recipe()):
            return False
        said = all(image.evidence.get("vote", "") == self._vote(image.candidate) for image in record.images)
        return said and all((self.settings.out_dir / path).is_file() for path in record.outputs)

    def up_to_date_outcome(self) -> Outcome:
        """The outcome of a session that is done."""
        record = read_record(self.record)
        return Outcome(self.name, self._failures(record) if record else (), 0)

    def count_stopped(self) -> int:
        """No step of a session is given a limit."""
        return 0

    def _keep(self, record: SessionRecord) -> None:
        """Write the record, for nobody who may not open the images."""
        with as_private_as(self.settings.bids_dir / image.path for image in self.images):
            write_record(self.record, record)

    def _recipe(self) -> dict[str, Any]:
        files = [*self.images, *self.elsewhere]
        return {
            **self.settings.recipe(),
            "files": {one.path: provenance.state_of_file(self.settings.bids_dir / one.path) for one in files},
            "sidecars": {
                one.path: provenance.state_of_file(
                    (self.settings.bids_dir / one.path).with_name(f"{one.name.partition('.')[0]}.json")
                )
                for one in self.images
            },
            "versions": {"efface": __version__, **provenance.versions()},
            "data": provenance.defacing_data(),
        }

    def _images(self) -> Iterator[ImageRecord]:
        """Decide and write each image, the reference first."""
        opened, records = [], []
        for found in self.images:
            try:
                opened.append(open_image(self.settings.bids_dir, found))
            except InputError as error:
                records.append(self._unreadable(found, str(error)))
        yield from records
        decided: list[tuple[HeadImage, Decision]] = []
        reference, tried = self._reference(opened)
        if reference is not None and reference.image in opened:
            decided.append((reference.image, reference.decision))
            yield self._written(reference.image, reference.decision)
        rest = [image for image in opened if reference is None or image is not reference.image]
        for image in sorted(rest, key=lambda one: not one.shows_magnitudes):
            earlier = tried.get(image.found.path)
            decision = self._decision(image, self._carried(image, reference, earlier), decided, earlier)
            decided.append((image, decision))
            yield self._written(image, decision)

    def _carried(self, image: HeadImage, reference: Reference | None, tried: Decision | None) -> Decision | None:
        """What the reference decides of an image; None where it does not."""
        is_done = tried is not None and tried.outcome is Became.COPIED
        if reference is None or is_done or not image.shows_magnitudes:
            return None
        return self._voted(image, decide_carried(image, reference))

    def _reference(self, opened: list[HeadImage]) -> tuple[Reference | None, dict[str, Decision]]:
        """The image that decides, and what was decided of those that were tried before it."""
        tried: dict[str, Decision] = {}
        for image in in_order(opened):
            anatomy, decision = decide_reference(image, self.settings.method, self.settings.params)
            decision = self._voted(image, decision)
            if decision.outcome is Became.DEFACED:
                return Reference(image, anatomy, decision), tried
            tried[image.found.path] = decision
        for image in in_order([one for found in self.elsewhere for one in self._opened(found)]):
            anatomy, decision = decide_reference(image, self.settings.method, self.settings.params)
            if self._voted(image, decision).outcome is Became.DEFACED:
                return Reference(image, anatomy, decision), tried
        return None, tried

    def _opened(self, found: Found) -> list[HeadImage]:
        try:
            return [open_image(self.settings.bids_dir, found)]
        except InputError:
            return []

    def _decision(
        self,
        image: HeadImage,
        carried: Decision | None,
        decided: list[tuple[HeadImage, Decision]],
        tried: Decision | None,
    ) -> Decision:
        if not image.shows_magnitudes:
            return decide_with(image, decided) or Decision(Became.WITHHELD, NO_MAGNITUDE)
        if carried is None:
            return tried or Decision(Became.WITHHELD, NO_REFERENCE)
        if carried.outcome is Became.WITHHELD:
            by_sibling = decide_with(image, decided)
            if by_sibling is not None and by_sibling.outcome is not Became.WITHHELD and carried.edit is None:
                return by_sibling
            return carried if tried is None else replace(tried, reason=f"{tried.reason}; {carried.reason}")
        return carried

    def _voted(self, image: HeadImage, decision: Decision) -> Decision:
        """The decision after the reviewers' word on exactly this result."""
        said = self._vote(fingerprint(image, decision))
        if not said:
            return decision
        evidence = {**decision.evidence, "vote": said}
        vote = self.votes[fingerprint(image, decision)]
        if vote.releases and decision.edit is not None:
            reason = f"{VOTED} {said}" + (f" (the checks said: {decision.reason})" if decision.reason else "")
            return replace(decision, outcome=Became.DEFACED, reason=reason, evidence=evidence)
        if vote.releases:
            return replace(decision, evidence=evidence)
        return replace(decision, outcome=Became.WITHHELD, reason=f"{VOTED} {said}", evidence=evidence)

    def _vote(self, candidate: str) -> str:
        vote = self.votes.get(candidate)
        return vote.verdict if vote else ""

    def _written(self, image: HeadImage, decision: Decision) -> ImageRecord:
        if decision.outcome is Became.WITHHELD:
            (self.settings.out_dir / image.found.path).unlink(missing_ok=True)
        row, outputs = publish(self.settings, image, decision)
        edit = edit_of(image.found, decision, self.settings.method)
        if edit and outputs:
            edit["mask"] = next((path for path in outputs if path.endswith("mask.nii.gz")), "")
        return ImageRecord(
            replace(row, reason=self._clean(row.reason)),
            outputs,
            self._clean(decision.evidence),
            tuple(self._clean(list(dict.fromkeys(decision.warnings)))),
            edit,
            fingerprint(image, decision),
        )

    def _unreadable(self, found: Found, reason: str) -> ImageRecord:
        (self.settings.out_dir / found.path).unlink(missing_ok=True)
        digest = ""
        with contextlib.suppress(OSError):
            digest = file_sha256(self.settings.bids_dir / found.path)
        return ImageRecord(FileRow(found.path, Became.WITHHELD, self._clean(reason), sha256_before=digest))

    def _clean(self, value: Any) -> Any:
        """Without absolute paths."""
        return shareable(value, bids_dir=self.settings.bids_dir, out_dir=self.settings.out_dir)

    def _remove(self, outputs: set[str]) -> None:
        for path in outputs:
            (self.settings.out_dir / path).unlink(missing_ok=True)

    def _failures(self, record: SessionRecord) -> tuple[Row, ...]:
        return tuple(
            Row(self.subject, self.session, image.row.path, self.settings.method, "native", "", "share", "", "",
                float("nan"), FAILED, image.row.reason)
            for image in record.images
            if image.row.outcome is Became.WITHHELD
        )  # fmt: skip
