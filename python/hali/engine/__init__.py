"""L3: llama.cpp in processes of its own, and the daemon's side of them.

`worker` and what it imports (`loop`, `backend`, `sampling`, `chat`, `confine`) run in the child; `process` and `pool`
run in the daemon and never import llama_cpp. Both speak `protocol`: HLF1 frames over a Unix socket pair.
"""
