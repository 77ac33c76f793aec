"""A replica of vision: `python -m services.vision`."""

from meshwork.server import ServiceSpec, main

SPEC = ServiceSpec(
    name="vision",
    full_name="meshwork.vision.v1.VisionService",
    tasks={"digits": "services.vision.tasks.digits:Digits"},
    servicer="services.vision.service:VisionService",
)

if __name__ == "__main__":
    main(SPEC)
