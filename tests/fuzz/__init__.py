"""Files with something wrong in them, made from good ones, and what knnvc says to each."""
