package integrationcli

// liveWithImages takes a container through its life that has an image and a part of one
// mounted.
func (s *site) liveWithImages() error {
	return s.life(object{
		"Image": image, "Cmd": []string{"sleep", "1000"},
		"HostConfig": object{"Mounts": []object{
			{"Type": "image", "Source": image, "Target": "/whole"},
			{"Type": "image", "Source": image, "Target": "/part", "ImageOptions": object{"Subpath": "bin"}},
		}},
	})
}
