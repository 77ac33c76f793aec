"""A replica of speech: `python -m services.speech`."""

from meshwork.server import ServiceSpec, main

SPEC = ServiceSpec(
    name="speech",
    full_name="meshwork.speech.v1.SpeechService",
    tasks={
        "sphinx": "services.speech.tasks.sphinx:Sphinx",
        "espeak": "services.speech.tasks.espeak:ESpeak",
        "speech-recognition": "services.speech.tasks.whisper:Whisper",
        "ctc-speech-recognition": "services.speech.tasks.ctc:Ctc",
        "text-to-speech": "services.speech.tasks.vits:Vits",
    },
    servicer="services.speech.service:SpeechService",
    architectures={
        "WhisperForConditionalGeneration": "speech-recognition",
        "ForCTC": "ctc-speech-recognition",
        "VitsModel": "text-to-speech",
    },
)

if __name__ == "__main__":
    main(SPEC)
