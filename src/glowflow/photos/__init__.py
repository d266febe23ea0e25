"""Images as files and as arrays; squares of photographs: faces found and levelled, cut out, and put
back after an edit."""
