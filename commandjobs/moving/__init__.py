"""Moving jobs: from one storage to another, or through an archive file.

`pieces` reads a storage piece by piece, `copying` writes what it reads into another one; `archive_file` is a file on
disk, which `exporting` writes and `importing` reads. What a line of it says is `model.archive_line`.
"""
