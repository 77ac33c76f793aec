"""Runs a replica of the recommendation service."""

from __future__ import annotations

from meshwork.server import ServiceSpec, main

SPEC = ServiceSpec(
    name="recommendation",
    full_name="meshwork.recommendation.v1.RecommendationService",
    tasks={"sequence": "services.recommendation.tasks.sequence:SequenceRecommender"},
    servicer="services.recommendation.service:RecommendationService",
)

if __name__ == "__main__":
    main(SPEC)
