"""From a container to pictures: FFmpeg by PyAV, hardware decoders, deinterlacing, upright images with square pixels.

Where the bytes come from is in recordings/, network/ and cameras/.
"""
