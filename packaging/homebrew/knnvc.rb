# A formula for a tap. Not built here: there is no Mac, and Homebrew cannot be reached.
# Put in the sdist's address and sha256, then `brew update-python-resources knnvc` writes the
# resources (torch, numpy and the rest) below `depends_on`.
class Knnvc < Formula
  include Language::Python::Virtualenv

  desc "Voice conversion and text to speech in any voice, with nearest neighbours"
  homepage "ADDRESS"
  url "ADDRESS/knnvc-0.2.0.tar.gz"
  sha256 "SHA256"
  license all_of: ["MIT", "Apache-2.0"]

  depends_on "espeak-ng"
  depends_on "ffmpeg"
  depends_on "libsndfile"
  depends_on "python@3.13"
  depends_on "pytorch"

  def install
    virtualenv_install_with_resources
  end

  test do
    system bin/"knnvc", "speak", "Good morning.", "--lam", "0", "-o", "morning.wav"
    assert_predicate testpath/"morning.wav", :exist?
  end
end
