"""How avatar files are written: compression of a GLB, name and licence of a VRM."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, Any, Literal

from tyro.conf import arg

from omote.errors import ConfigError

Compression = Literal["none", "quantized", "meshopt"]
LICENSE_URL = "https://vrm.dev/licenses/1.0/"


@dataclass(frozen=True, kw_only=True)
class VrmMeta:
    """Name and licence of a VRM; what is left out forbids.

    Attributes:
        name: name of the avatar; the file's if empty.
        authors: who made it.
        users: who may wear the avatar.
        commerce: for whose profit it may be used.
        modification: what may be changed.
        redistribution: the file may be passed on.
        credit: whether the authors must be named.
        consent: consent of the scanned person: who agreed to what, when; written to the copyright information.
        contact: how to reach the authors.
        license_url: a further licence.
    """

    name: Annotated[str, arg(name="vrm-name", metavar="NAME")] = ""
    authors: Annotated[tuple[str, ...], arg(name="vrm-authors", metavar="NAME ...")] = ("unknown",)
    users: Annotated[Literal["onlyAuthor", "onlySeparatelyLicensedPerson", "everyone"], arg(name="vrm-users")] = (
        "onlyAuthor"
    )
    commerce: Annotated[Literal["personalNonProfit", "personalProfit", "corporation"], arg(name="vrm-commerce")] = (
        "personalNonProfit"
    )
    modification: Annotated[
        Literal["prohibited", "allowModification", "allowModificationRedistribution"], arg(name="vrm-modification")
    ] = "prohibited"
    redistribution: Annotated[bool, arg(name="vrm-redistribution")] = False
    credit: Annotated[Literal["required", "unnecessary"], arg(name="vrm-credit")] = "required"
    consent: Annotated[str, arg(name="vrm-consent", metavar="WORDS")] = ""
    contact: Annotated[str, arg(name="vrm-contact", metavar="WORDS")] = ""
    license_url: Annotated[str, arg(name="vrm-license-url", metavar="URL")] = ""

    def __post_init__(self) -> None:
        if not self.authors:
            raise ConfigError("authors: expected at least one, got none; give --vrm-authors NAME")

    def entry(self, default_name: str) -> dict[str, Any]:
        """The file's ``VRMC_vrm.meta``."""
        consent = self.consent or "none recorded; ask the scanned person before this avatar is used"
        further = {"contactInformation": self.contact, "otherLicenseUrl": self.license_url}
        return {
            "name": self.name or default_name,
            "authors": list(self.authors),
            "licenseUrl": LICENSE_URL,
            "copyrightInformation": f"A person's likeness. Consent: {consent}.",
            "avatarPermission": self.users,
            "commercialUsage": self.commerce,
            "modification": self.modification,
            "allowRedistribution": self.redistribution,
            "creditNotation": self.credit,
            "allowExcessivelyViolentUsage": False,
            "allowExcessivelySexualUsage": False,
            "allowPoliticalOrReligiousUsage": False,
            "allowAntisocialOrHateUsage": False,
            **{key: value for key, value in further.items() if value},
        }
