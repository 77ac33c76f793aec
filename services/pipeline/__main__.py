"""A replica of pipeline: `python -m services.pipeline`."""

from meshwork.server import ServiceSpec, main

SPEC = ServiceSpec(
    name="pipeline",
    full_name="meshwork.pipeline.v1.PipelineService",
    tasks={"pipeline": "services.pipeline.tasks.steps:Pipeline"},
    servicer="services.pipeline.service:PipelineService",
)

if __name__ == "__main__":
    main(SPEC)
