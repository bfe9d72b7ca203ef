"""Sound as samples: reading, writing, resampling, loudness, silence, pitch."""

from knnvc.audio.files import MINIMUM_SECONDS as MINIMUM_SECONDS
from knnvc.audio.files import SAMPLE_RATE as SAMPLE_RATE
from knnvc.audio.files import AudioInput as AudioInput
from knnvc.audio.files import check_output as check_output
from knnvc.audio.files import load_audio as load_audio
from knnvc.audio.files import loudness_gain as loudness_gain
from knnvc.audio.files import normalize_loudness as normalize_loudness
from knnvc.audio.files import require_audio as require_audio
from knnvc.audio.files import resample as resample
from knnvc.audio.files import to_waveform as to_waveform
from knnvc.audio.files import trim_silence as trim_silence
from knnvc.audio.files import write_audio as write_audio
from knnvc.files import find_audio as find_audio
