"""A replica of speech: `python -m services.speech`."""

from meshwork.server import ServiceSpec, main

SPEC = ServiceSpec(
    name="speech",
    full_name="meshwork.speech.v1.SpeechService",
    tasks={
        "sphinx": "services.speech.tasks.sphinx:Sphinx",
        "espeak": "services.speech.tasks.espeak:ESpeak",
    },
    servicer="services.speech.service:SpeechService",
)

if __name__ == "__main__":
    main(SPEC)
