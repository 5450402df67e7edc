"""What is kept of a DICOM header: how to show the pixels, and which kind of image it is.

Everything else is removed, so that no attribute has to be known in order to go: neither those of
the basic profile (PS3.15, table E.1-1) nor private or future ones. A kept value is a number or a
word of the standard's, never a free text.
"""


def _named(names: str) -> frozenset[str]:
    return frozenset(names.split())


NUMBERS = _named(
    """SamplesPerPixel PlanarConfiguration NumberOfFrames Rows Columns PixelAspectRatio
    BitsAllocated BitsStored HighBit PixelRepresentation SmallestImagePixelValue
    LargestImagePixelValue PixelPaddingValue PixelPaddingRangeLimit FloatPixelPaddingValue
    FloatPixelPaddingRangeLimit DoubleFloatPixelPaddingValue DoubleFloatPixelPaddingRangeLimit
    RescaleIntercept RescaleSlope WindowCenter WindowWidth PixelIntensityRelationshipSign
    PixelSpacing ImagerPixelSpacing NominalScannedPixelSpacing LossyImageCompressionRatio
    LUTDescriptor RedPaletteColorLookupTableDescriptor GreenPaletteColorLookupTableDescriptor
    BluePaletteColorLookupTableDescriptor AlphaPaletteColorLookupTableDescriptor
    SliceThickness SpacingBetweenSlices ImagePositionPatient ImageOrientationPatient KVP
    SeriesNumber AcquisitionNumber InstanceNumber"""
)
TABLES = _named(
    """LUTData RedPaletteColorLookupTableData GreenPaletteColorLookupTableData
    BluePaletteColorLookupTableData AlphaPaletteColorLookupTableData
    SegmentedRedPaletteColorLookupTableData SegmentedGreenPaletteColorLookupTableData
    SegmentedBluePaletteColorLookupTableData"""
)
SEQUENCES = _named(
    """ModalityLUTSequence VOILUTSequence SharedFunctionalGroupsSequence
    PerFrameFunctionalGroupsSequence PixelValueTransformationSequence FrameVOILUTSequence
    PixelMeasuresSequence"""
)
"""Of each the first item, with what is kept of that."""
CLASSES = frozenset({"SOPClassUID"})
UIDS = ("SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID")
DATES = ("StudyDate", "SeriesDate", "AcquisitionDate", "ContentDate")
"""Shifted, each with its time, by as many hours for all images of a patient."""
EMPTY = ("PatientBirthDate", "PatientSex", "AccessionNumber", "StudyID", "ReferringPhysicianName")
"""Without a value: an image must have them."""


def time_of(date: str) -> str:
    """Return the time that belongs to a date."""
    return date.replace("Date", "Time")


IDENTITY = frozenset(
    {*UIDS, *EMPTY, *DATES, *map(time_of, DATES), "PatientID", "PatientName"}
    | {"SpecificCharacterSet"}
)
"""Written anew."""

WORDS: dict[str, frozenset[str]] = {
    name: frozenset(words.split("|"))
    for name, words in {
        "Modality": "AR|BI|BMD|CR|CT|DG|DX|ES|GM|IO|IVOCT|IVUS|LS|MG|MR|NM|OCT|OP|OPT|OT|PT|PX|RF|"
        "RG|RTIMAGE|SC|SM|TG|US|XA|XC",
        "ImageType": "ORIGINAL|DERIVED|PRIMARY|SECONDARY|AXIAL|LOCALIZER|MIXED|NONE|M|OTHER|"
        "SCREEN SAVE|SUM|ADDITION|AVERAGE|MAXIMUM|MINIMUM|PROJECTION IMAGE|SINGLE PLANE|BIPLANE A|"
        "BIPLANE B|POST_CONTRAST|PRE_CONTRAST|RESAMPLED|REFORMATTED",
        "PresentationIntentType": "FOR PRESENTATION|FOR PROCESSING",
        "ConversionType": "DV|DI|DF|WSD|SD|SI|DRW|SYN",
        "BurnedInAnnotation": "YES|NO",
        "RecognizableVisualFeatures": "YES|NO",
        "LossyImageCompression": "00|01",
        "LossyImageCompressionMethod": "ISO_10918_1|ISO_14495_1|ISO_15444_1|"
        "ISO_15444_2|ISO_13818_2",
        "PhotometricInterpretation": "MONOCHROME1|MONOCHROME2|PALETTE COLOR|RGB|YBR_FULL|"
        "YBR_FULL_422|YBR_PARTIAL_422|YBR_PARTIAL_420|YBR_ICT|YBR_RCT|ARGB|HSV|CMYK|YBR_RCT|XYB",
        "VOILUTFunction": "LINEAR|LINEAR_EXACT|SIGMOID",
        "PresentationLUTShape": "IDENTITY|INVERSE",
        "PixelIntensityRelationship": "LIN|LOG|DISP",
        "RescaleType": "OD|HU|US|MGML|Z_EFF|ED|EDW|HU_MOD|PCT|NORMALIZED",
        "ModalityLUTType": "OD|HU|US|MGML|Z_EFF|ED|EDW|HU_MOD|PCT|NORMALIZED",
        "ViewPosition": "AP|PA|LL|RL|RLD|LLD|RLO|LLO|LAT|LATERAL|OBL|OBLIQUE|LAO|RAO|LPO|RPO|CC|"
        "MLO|ML|LM|LMO|XCCL|XCCM|FB|SIO|CV|AT|RCC|LCC|RMLO|LMLO",
        "PatientOrientation": "A|P|L|R|H|F|AL|AR|PL|PR|AH|AF|PH|PF|LH|LF|RH|RF|LA|RA|LP|RP|HA|FA|"
        "HP|FP|HL|FL|HR|FR",
        "ImageLaterality": "L|R|U|B",
        "Laterality": "L|R",
        "PatientPosition": "HFP|HFS|HFDR|HFDL|FFDR|FFDL|FFP|FFS",
        "BodyPartExamined": "CHEST|THORAX|LUNG|HEART|RIB|STERNUM|CLAVICLE|ABDOMEN|BREAST|HEAD|"
        "SKULL|BRAIN|NECK|SPINE|CSPINE|TSPINE|LSPINE|PELVIS|HIP|KNEE|LEG|TIBIA FIBULA|FEMUR|ANKLE|"
        "FOOT|SHOULDER|ARM|HUMERUS|ELBOW|FOREARM|WRIST|HAND|FINGER|EYE|JAW|TOOTH|WHOLEBODY|EXTREMITY|"
        "KIDNEY|LIVER|PROSTATE|UTERUS",
    }.items()
}
