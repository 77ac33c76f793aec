"""A replica of vision: `python -m services.vision`."""

from meshwork.server import ServiceSpec, main

SPEC = ServiceSpec(
    name="vision",
    full_name="meshwork.vision.v1.VisionService",
    tasks={
        "digits": "services.vision.tasks.digits:Digits",
        "image-classification": "services.vision.tasks.image_classification:ImageClassification",
        "object-detection": "services.vision.tasks.object_detection:ObjectDetection",
        "clip": "services.vision.tasks.clip:Clip",
    },
    servicer="services.vision.service:VisionService",
    architectures={
        "ForImageClassification": "image-classification",
        "ForImageClassificationWithTeacher": "image-classification",
        "ForObjectDetection": "object-detection",
        "CLIPModel": "clip",
    },
)

if __name__ == "__main__":
    main(SPEC)
