"""Fetch public data sets and make synthetic data sets.

`fetch` and `sample` are the commands.

| module                                                    | content                                             |
|-----------------------------------------------------------|-----------------------------------------------------|
| `data_sets`                                               | the known data sets and their checksums             |
| `isbi2012`, `cell_tracking_sets`                          | read and write the files of a challenge             |
| `download`, `folders`                                     | fetch files; write folders completely or not at all |
| `synthetic_em`, `synthetic_cells`, `synthetic_organelles` | draw synthetic sections                             |
"""
