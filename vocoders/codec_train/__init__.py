"""Training of codecs: the small one, SoundStream, EnCodec and Mimi."""
