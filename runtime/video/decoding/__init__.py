"""From a container to pictures: FFmpeg by PyAV, hardware decoders, deinterlacing, upright images with square pixels.

The bytes come from recordings/, network/ and cameras/.
"""
