"""The table of defacing methods. A new method is one file and one record here."""

from collections.abc import Mapping
from types import MappingProxyType

from efface.defacing import defacer, fsl_deface, mri_deface, mri_reface, pydeface, quickshear
from efface.defacing.external_programs import EXTERNAL_PROGRAMS
from efface.defacing.method import DefacingMethod

METHODS: Mapping[str, DefacingMethod] = MappingProxyType(
    {
        method.name: method
        for method in (
            DefacingMethod(
                name="defacer",
                title="Defacer",
                summary="a network finds eyes, nose, ears and mouth, and their voxels are replaced",
                reference="Jeong et al. 2020, doi 10.2196/22739",
                citation="jeong2020",
                colour="#CC79A7",
                params=defacer.Params,
                plan=defacer.plan,
            ),
            DefacingMethod(
                name="quickshear",
                title="QuickShear",
                summary="cuts along a plane in front of the brain",
                reference="Schimke & Hale 2011",
                citation="schimke2011",
                colour="#E69F00",
                params=quickshear.Params,
                plan=quickshear.plan,
                external=EXTERNAL_PROGRAMS["quickshear"],
            ),
            DefacingMethod(
                name="mri_deface",
                title="MRI_Deface",
                summary="removes what can be face and cannot be brain, by priors",
                reference="Bischoff-Grethe et al. 2007, doi 10.1002/hbm.20312",
                citation="bischoffgrethe2007",
                colour="#56B4E9",
                params=mri_deface.Params,
                plan=mri_deface.plan,
                external=EXTERNAL_PROGRAMS["mri_deface"],
            ),
            DefacingMethod(
                name="pydeface",
                title="PyDeface",
                summary="removes the face mask of the registered average head",
                reference="Gulban et al. 2022, doi 10.5281/zenodo.6856482",
                citation="gulban2022",
                colour="#0072B2",
                params=pydeface.Params,
                plan=pydeface.plan,
                external=EXTERNAL_PROGRAMS["pydeface"],
            ),
            DefacingMethod(
                name="fsl_deface",
                title="FSL_deface",
                summary="removes a mask of face and ears carried from standard space",
                reference="Alfaro-Almagro et al. 2018, doi 10.1016/j.neuroimage.2017.10.034",
                citation="alfaroalmagro2018",
                colour="#009E73",
                params=fsl_deface.Params,
                plan=fsl_deface.plan,
                external=EXTERNAL_PROGRAMS["fsl_deface"],
            ),
            DefacingMethod(
                name="mri_reface",
                title="mri_reface",
                summary="replaces face and ears by an average face fitted to the head",
                reference="Schwarz et al. 2021, doi 10.1016/j.neuroimage.2021.117845",
                citation="schwarz2021",
                colour="#D55E00",
                params=mri_reface.Params,
                plan=mri_reface.plan,
                external=EXTERNAL_PROGRAMS["mri_reface"],
            ),
        )
    }
)
