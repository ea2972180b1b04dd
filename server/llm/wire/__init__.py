"""The messages of vendors' gRPC protocols, as far as they are used here.

On the wire gRPC carries the path of the method and the numbers of the fields, and no
names of messages. So a small subset with the vendor's numbers, under packages of our
own, talks to the vendor's servers, and cannot clash in one process with the vendor's own
package, nor with another vendor that has chosen the same names.

A third level of folders, because these modules are generated (``make proto``, from the
``.proto`` files beside them) and never edited, linted or read like the others.
"""
