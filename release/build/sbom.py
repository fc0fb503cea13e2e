"""What an artefact is made of, as CycloneDX: every wheel with version, hash, licence and what it needs.

The same wheels give the same bytes: time and serial number come from the commit and the hashes.
"""

from __future__ import annotations

import uuid
import zipfile
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from cyclonedx.model import HashAlgorithm, HashType, Property
from cyclonedx.model.bom import Bom, BomMetaData
from cyclonedx.model.component import Component, ComponentType
from cyclonedx.model.license import DisjunctiveLicense, LicenseAcknowledgement, LicenseExpression
from cyclonedx.output import make_outputter
from cyclonedx.schema import OutputFormat, SchemaVersion
from packageurl import PackageURL
from packaging.metadata import parse_email
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from release.errors import ArtefactError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from packaging.metadata import RawMetadata

    from release.build.version import Stamp
    from release.build.wheels import Wheel

_SPACE: Final = uuid.UUID(
    "b6d7cf0b-4f0e-5f8c-9a55-0f1a6c7b3f52"
)  #: a constant; serial numbers are made in it
_LICENCE_CHARS_MAX: Final = 100  #: more is a whole licence text, not its name


def render(own: Wheel, others: Sequence[Wheel], stamp: Stamp, compiler: str = "") -> str:
    """Return the document as JSON.

    Args:
        own: our wheel.
        others: the wheels it is installed with.
        stamp: gives revision and time.
        compiler: what compiled modules of our wheel; empty: it has sources alone.

    Raises:
        ArtefactError: a wheel has no metadata.
    """
    metadata = {wheel.name: _metadata(wheel) for wheel in (own, *others)}
    components = {wheel.name: _component(wheel, metadata[wheel.name]) for wheel in (own, *others)}
    application = components[own.name]
    application.type = ComponentType.APPLICATION
    application.properties = [Property(name="purgeline:revision", value=stamp.revision)]
    if compiler:
        application.properties = [
            *application.properties,
            Property(name="purgeline:compiler", value=compiler),
        ]
    hashes = " ".join(sorted(wheel.sha256 for wheel in (own, *others)))
    bom = Bom(
        components=[components[wheel.name] for wheel in others],
        serial_number=uuid.uuid5(_SPACE, f"{stamp.version} {stamp.revision} {hashes}"),
        metadata=BomMetaData(component=application, timestamp=datetime.fromtimestamp(stamp.time, UTC)),
    )
    for name, component in components.items():
        needed = _needs(metadata[name])
        bom.register_dependency(component, [components[other] for other in sorted(needed & set(components))])
    return make_outputter(bom, OutputFormat.JSON, SchemaVersion.V1_6).output_as_string(indent=1) + "\n"


def _component(wheel: Wheel, metadata: RawMetadata) -> Component:
    purl = PackageURL("pypi", name=wheel.name, version=wheel.version)
    licence = _licence(metadata)
    return Component(
        name=wheel.name,
        version=wheel.version,
        type=ComponentType.LIBRARY,
        bom_ref=str(purl),
        purl=purl,
        description=metadata.get("summary"),
        hashes=[HashType(alg=HashAlgorithm.SHA_256, content=wheel.sha256)],
        licenses=[licence] if licence else [],
    )


def _licence(metadata: RawMetadata) -> LicenseExpression | DisjunctiveLicense | None:
    declared = LicenseAcknowledgement.DECLARED
    if expression := metadata.get("license_expression"):
        return LicenseExpression(expression, acknowledgement=declared)
    name = (metadata.get("license") or "").strip()
    if not name or len(name) > _LICENCE_CHARS_MAX or "\n" in name:
        classifiers = [text for text in metadata.get("classifiers", []) if text.startswith("License ::")]
        name = classifiers[0].rpartition(" :: ")[2] if classifiers else ""
    return DisjunctiveLicense(name=name, acknowledgement=declared) if name else None


def _needs(metadata: RawMetadata) -> set[str]:
    """Return the names of the packages that a package requires, for its extras too."""
    return {canonicalize_name(Requirement(text).name) for text in metadata.get("requires_dist", [])}


def _metadata(wheel: Wheel) -> RawMetadata:
    with zipfile.ZipFile(wheel.path) as archive:
        for name in archive.namelist():
            if name.endswith(".dist-info/METADATA") and name.count("/") == 1:
                return parse_email(archive.read(name))[0]
    raise ArtefactError(f"{wheel.path}: has no METADATA")
