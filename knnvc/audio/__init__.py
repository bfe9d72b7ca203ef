"""Sound as samples: reading, writing, resampling, loudness, silence, pitch."""

from knnvc.audio.loudness import loudness_gain as loudness_gain
from knnvc.audio.loudness import measure_loudness as measure_loudness
from knnvc.audio.loudness import normalize as normalize
from knnvc.audio.loudness import normalize_loudness as normalize_loudness
from knnvc.audio.reading import load_audio as load_audio
from knnvc.audio.resampling import SAMPLE_RATE as SAMPLE_RATE
from knnvc.audio.resampling import converted_length as converted_length
from knnvc.audio.resampling import resample as resample
from knnvc.audio.samples import MINIMUM_SECONDS as MINIMUM_SECONDS
from knnvc.audio.samples import AudioInput as AudioInput
from knnvc.audio.samples import require_audio as require_audio
from knnvc.audio.samples import to_waveform as to_waveform
from knnvc.audio.silence import trim_silence as trim_silence
from knnvc.audio.streams import read_stream as read_stream
from knnvc.audio.streams import write_stream as write_stream
from knnvc.audio.writing import check_output as check_output
from knnvc.audio.writing import write_audio as write_audio
from knnvc.files import find_audio as find_audio
